//! `docker-credential-rise`: the program that docker, podman, skopeo and the kubelet start.

use std::process::ExitCode;

fn main() -> ExitCode {
    rise_cli::process::harden();
    rise_cli::helper::main()
}
