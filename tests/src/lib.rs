//! Starts the broker, the real peers that it is tested against, and doubles for what a real peer
//! cannot do on demand.
//!
//! Every peer listens on 127.0.0.1 on a free port, keeps its files in a folder of its own, and ends
//! when its value is dropped, also when a test panics or is killed. `make peers`
//! (`tests/peers/setup.sh`) installs what they need.
//!
//! | For | Use |
//! |---|---|
//! | the broker itself, in process | [`TestBroker`] |
//! | the broker's binary, as an operator runs it | [`Installation`] |
//! | STS and ECR that enforce session policies | [`Ministack`] |
//! | an independent STS and ECR, and what exactly was sent | [`Moto`] |
//! | STS and ECR that know a broker by its tokens, and verify them as AWS does | [`FederatedAws`] |
//! | a registry with an API of its own, for providers that use `http` | [`Imaginary`] |
//! | the address at which clouds reach a broker's keys, and what they check of its tokens | [`federation`] |
//! | Entra ID and an Azure Container Registry, which Microsoft's clients believe | [`Azure`] |
//! | Quay and Cloudsmith, which know a broker by its tokens, and a registry behind them | [`Quay`], [`Cloudsmith`] |
//! | Docker Hub and zot, with their token servers, and a registry behind them | [`DockerHub`], [`Zot`] |
//! | registries whose credentials live too long, so that the broker ends them | [`minting`] |
//! | a disk that forgets what was not synced, and fails as told | [`FakeDisk`] |
//! | STS and ECR that fail, stall or lie as told | [`Stub`] |
//! | something that happens between two requests of the broker to AWS | [`Relay`] |
//! | providers that no compiler would make | [`handwritten`] |
//! | providers' files, good and broken | [`provider_files`] |
//! | a store that brokers share, and a network that fails on the way to it | [`redis`] |
//! | several brokers on one store, in process and as programs | [`replicas`], [`together`] |
//! | an OCI registry | [`DockerRegistry`] |
//! | what a benchmark compares the broker with | [`baseline`] |
//! | the image of `deploy/image`, and containers of it | [`Containers`] |
//! | a caller's machine, with the client's programs on it | [`Workstation`] |
//! | a condition that comes true after a while | [`eventually`] |
//! | what a client may meet instead of a broker | [`BrokerDouble`] |
//! | an OCI client, and something to push | [`Skopeo`], [`OciLayout`] |
//! | a client that breaks the rules of HTTP, from an address of its choice | [`Wire`] to a [`Listening`] |
//! | a server that records are posted to, and that fails as told | [`Collector`] |
//! | a database that the audit log is shipped to | [`Postgres`] |
//! | an OIDC issuer | [`Oidc`] |
//! | an OIDC issuer with the device flow | [`DeviceOidc`] |
//! | an OIDC issuer that misbehaves as told, and keys to sign with | [`IssuerDouble`], [`Signer`] |
//!
//! To add one, write a file here that wraps a [`Process`], a line above, and a test in
//! `tests/behaviour/peers.rs`.

mod artifactory;
mod aws;
pub mod azure;
mod balancer;
pub mod baseline;
mod broker;
mod broker_double;
mod built;
pub mod cancellation;
pub mod chart;
mod cloudsmith;
mod collector;
mod containers;
pub mod crash;
mod device_oidc;
pub mod disk;
mod docker_registry;
mod dockerhub;
mod eventually;
pub mod everything;
mod federated_aws;
pub mod federation;
pub mod fleet;
mod gateway;
mod gitea;
mod gitlab;
mod google;
pub mod handwritten;
mod harbor;
mod https;
mod hub_organization;
mod image;
pub mod imaginary;
mod installation;
mod internet;
mod issuer_double;
pub mod kill;
pub mod load;
pub mod logs;
mod loopback;
mod ministack;
pub mod minting;
mod moto;
mod nexus;
mod oidc;
mod operator_key;
pub mod outstanding;
mod postgres;
pub mod preload;
mod process;
pub mod projects;
pub mod provider_files;
mod quay;
pub mod redis;
pub mod registry;
mod relay;
pub mod replicas;
pub mod rolling;
pub mod scene;
mod serving;
mod settings;
pub mod shipping;
pub mod siege;
mod signer;
mod skipped;
mod skopeo;
mod stub;
mod terraform;
pub mod together;
mod token_registry;
mod vendor_client;
pub mod wire;
mod workstation;
mod zot;

pub use artifactory::{ARTIFACTORY_ADMIN, Artifactory, ArtifactoryLie};
pub use aws::caller::{Caller, Keys, Verdict};
pub use aws::request::Request;
pub use azure::Azure;
pub use balancer::Balancer;
pub use broker::{AUDIENCE, BrokerBuilder, Response, TestBroker, audit_text, lines};
pub use broker_double::{BrokerDouble, Saying};
pub use built::{binary, compiled, kit_binary, repository, target};
pub use cloudsmith::{CLOUDSMITH_API_KEY, Cloudsmith, CloudsmithLie};
pub use collector::{Collected, Collector, Collects};
pub use containers::Containers;
pub use device_oidc::DeviceOidc;
pub use disk::FakeDisk;
pub use docker_registry::{
    DEMO_PASSWORD, DEMO_USER, DockerRegistry, RegistryAuth, SECOND_PASSWORD, TokenTrust,
};
pub use dockerhub::{DOCKERHUB_TOKENS, DOCKERHUB_USER, DockerHub, DockerHubLie};
pub use eventually::{PATIENCE, eventually, eventually_blocking, within};
pub use federated_aws::{FederatedAws, FederatedSession};
pub use gitea::{GITEA, GITEA_BOT};
pub use gitlab::{GITLAB, GITLAB_TOKEN};
pub use google::{GOOGLE_BROKER, GOOGLE_GONE, Google, GoogleLie};
pub use harbor::{HARBOR, HARBOR_ADMIN};
pub use hub_organization::{HUB_LOGIN, HUB_ORGANIZATION};
pub use image::OciLayout;
pub use imaginary::Imaginary;
pub use installation::{Installation, Printed};
pub use internet::Internet;
pub use issuer_double::{IssuerDouble, Reply};
pub use loopback::{Answered, Client};
pub use ministack::{Ministack, TwoRoles};
pub use minting::{Minting, MintingKind, MintingMood};
pub use moto::Moto;
pub use nexus::{NEXUS, NEXUS_ADMIN};
pub use oidc::Oidc;
pub use operator_key::OperatorKey;
pub use postgres::Postgres;
pub use process::{PeerCommand, Port, Process, peers_directory, python_program};
pub use quay::{QUAY_ROBOT_PASSWORD, Quay, QuayLie};
pub use relay::{Instead, Moment, Passing, Relay};
pub use serving::Serving;
pub use settings::{AUTH, Settings};
pub use signer::Signer;
pub use skipped::skipped;
pub use skopeo::{Ran, Skopeo};
pub use stub::{Answer, Stub};
pub use terraform::Terraform;
pub use token_registry::{SIGNING, TokenInstallation, TokenRegistry};
pub use vendor_client::{vendor_client, vendor_client_of};
pub use wire::{Listening, Wire};
pub use workstation::Workstation;
pub use zot::Zot;
