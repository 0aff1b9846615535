//! Starts the double of a vendor's cloud, and prints what the settings of a broker need to use it.
//! It runs until its input ends: `rise-doubles google`, then Ctrl-D; in the background `sleep 900 |
//! rise-doubles google`.
//!
//! A double has the accounts of its file in `tests/src`. With an issuer it also accepts that
//! issuer's identity tokens, as after the set-up of a page in `docs/registries`.

use std::fs;
use std::io::Read as _;

use clap::{Args, Parser, Subcommand};
use rise_broker_tests::federation::Trust;
use rise_broker_tests::{ARTIFACTORY_ADMIN, Artifactory, Azure, Google};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    vendor: Vendor,
}

#[derive(Subcommand)]
enum Vendor {
    Artifactory(Federation),
    Azure(Federation),
    Google(Federation),
}

#[derive(Args)]
struct Federation {
    /// The `issuer` of the broker's `[signing]`, whose keys the double fetches over https.
    #[arg(long, requires = "authority", requires = "audience", requires = "subject")]
    issuer: Option<String>,
    /// A file with the certificate of the issuer's server, in PEM.
    #[arg(long)]
    authority: Option<String>,
    /// The `audience` of the registry in the settings.
    #[arg(long)]
    audience: Option<String>,
    /// A subject that is trusted, such as `project:my-app:registry:prod:actions:push`. May be
    /// stated several times.
    #[arg(long)]
    subject: Vec<String>,
}

impl Federation {
    fn trust(self) -> Option<Trust> {
        let authority = fs::read_to_string(self.authority?).unwrap();
        Some(Trust::new(self.issuer?, authority, self.audience?, self.subject))
    }
}

#[tokio::main]
async fn main() {
    match Arguments::parse().vendor {
        Vendor::Artifactory(federation) => {
            let artifactory = Artifactory::start().await;
            println!(
                "base_url = \"{}\"\naccess_token = \"{ARTIFACTORY_ADMIN}\"",
                artifactory.url()
            );
            if let Some(trust) = federation.trust() {
                // As the mappings of the page: one repository of `docker-local` for each project.
                let scope = |subject: &str| {
                    let project = subject.split(':').nth(1).unwrap_or_default();
                    let letters = if subject.ends_with(":push") { "r,w" } else { "r" };
                    format!("artifact:docker-local/{project}/**:{letters}")
                };
                artifactory.trust(trust, "rise", scope);
            }
            until_the_end().await;
        }
        Vendor::Azure(federation) => {
            let azure = Azure::start().await;
            let table = azure.table();
            let table = match federation.trust() {
                Some(trust) => azure.table_with_trust(trust),
                None => table,
            };
            println!("{table}");
            until_the_end().await;
        }
        Vendor::Google(federation) => {
            let google = Google::start().await;
            println!("[registries.prod]\ntype = \"google\"\nproject_id = \"acme\"");
            println!("region = \"europe-west1\"\nrepository = \"docker\"");
            println!("pull_service_account = \"puller@acme.iam.gserviceaccount.com\"");
            println!("push_service_account = \"pusher@acme.iam.gserviceaccount.com\"");
            println!("accept_scope = \"namespace\"\ntrust_provider = true");
            println!("endpoint_url = \"{}\"\nceiling.http.private = true", google.url());
            match federation.trust() {
                Some(trust) => {
                    println!("audience = \"{}\"", trust.audience);
                    google.trust(trust);
                }
                None => println!("service_account_key = '''{}'''", google.key_file()),
            }
            until_the_end().await;
        }
    }
}

async fn until_the_end() {
    println!("# running; Ctrl-D ends it");
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    let _ = read.await.unwrap();
}
