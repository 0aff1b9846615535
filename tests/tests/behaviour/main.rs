//! How the broker and the client behave: over HTTP, as processes, against real peers.
//!
//! All files are modules of one program, because each program links the broker once more. To add
//! one, write a file here and its line below. A test that compiles another project is a program of
//! its own.

mod alerts;
mod artifactory;
mod artifactory_federation;
mod assertions_capability;
mod audit;
mod audit_process;
mod aws_client;
mod aws_failures;
mod aws_identity;
mod azure;
mod azure_double;
mod azure_federation;
mod broken_settings;
mod canaries;
mod cancellation;
mod check_live;
mod check_live_by_token;
mod check_live_managed;
mod check_live_registry;
mod check_live_repository;
mod check_live_web_identity;
mod ci;
mod client_cache;
mod client_commands;
mod client_configure;
mod client_doctor;
mod client_exec;
mod client_failures;
mod client_files;
mod client_kubelet;
mod client_login;
mod client_mistakes;
mod client_registries;
mod client_repository;
mod client_revoke;
mod client_tokens;
mod client_waiting;
mod cloudsmith;
mod commands;
mod compose;
mod conformance;
mod contract;
mod dashboard;
mod debian;
mod directions;
mod distribution;
mod distribution_against_docker_registry;
mod dockerhub;
mod documented_issuers;
mod documented_registries;
mod ecr_against_ministack;
mod ecr_against_moto;
mod ecr_public;
mod ecr_repositories;
mod ecr_web_identity;
mod ended_by_the_broker;
mod explain;
mod faults_of_clients;
mod faults_of_files;
mod faults_of_the_system;
mod fleet;
mod ghcr;
mod gitea;
mod gitlab;
mod google;
mod google_federation;
mod harbor;
mod health;
mod helm;
mod hostile_providers;
mod hostile_tokens;
mod http_api_page;
mod http_capability;
mod image;
mod issuers_as_they_are;
mod issuing;
mod issuing_isolation;
mod kept_and_random;
mod keys;
mod limits;
mod named_paths;
mod needs_of_providers;
mod nexus;
mod nodes;
mod observability;
mod oci_against_docker_registry;
mod oidc_discovery;
mod openapi;
mod operator_audit;
mod operator_commands;
mod operator_files;
mod operator_intentions;
mod operator_mistakes;
mod operator_places;
mod operator_values;
mod peers;
mod process;
mod project_names;
mod provider_commands;
mod provider_limits;
mod quay;
mod registries_page;
mod release;
mod reload;
mod repositories_by_request;
mod repositories_command;
mod repositories_safety;
mod requests;
mod revocation;
mod rolling;
mod settings_of_the_seeds;
mod ship_postgres;
mod ship_postgres_failures;
mod siege;
mod stop_and_tls;
mod supply_chain;
mod terraform;
mod threats_authorization;
mod threats_edge;
mod threats_index;
mod threats_issuers;
mod threats_operation;
mod threats_tokens;
mod token_cases;
mod token_server;
mod volumes;
mod wycheproof;
mod zot;

/// The compiler ignores a file without a line above: its tests would never run.
#[test]
fn each_file_of_this_folder_is_a_module() {
    let folder = rise_broker_tests::repository().join("tests/tests/behaviour");
    let listed = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else {
            continue;
        };
        assert!(listed.contains(&format!("\nmod {module};\n")), "main.rs does not list {name}");
    }
}
