//! Calls of ECR on one repository that show a permission and change no image.

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::types::ImageIdentifier;

use super::failure::failure;
use crate::capability::aws::{AwsError, RepositoryAction, RepositoryTry};

/// A tag and a layer that nobody pushes. ECR answers that they are not there.
const TAG: &str = "rise-broker-probe-1";
const LAYER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// One attempt. What ECR says about the tag or the layer is of no interest.
pub(super) async fn attempt(config: SdkConfig, wanted: RepositoryTry) -> Result<(), AwsError> {
    let RepositoryTry { action, region, account_id, repository } = wanted;
    let config = config.into_builder().region(Region::new(region)).build();
    let public = aws_sdk_ecrpublic::Client::new(&config);
    let client = aws_sdk_ecr::Client::new(&config);
    match action {
        RepositoryAction::BatchGetImage => {
            let image = ImageIdentifier::builder().image_tag(TAG).build();
            let request = client.batch_get_image().registry_id(account_id);
            let request = request.repository_name(repository).image_ids(image);
            request.send().await.map(drop).map_err(|error| failure(&error))
        }
        RepositoryAction::BatchCheckLayerAvailability => {
            let request = client.batch_check_layer_availability().registry_id(account_id);
            let request = request.repository_name(repository).layer_digests(LAYER);
            request.send().await.map(drop).map_err(|error| failure(&error))
        }
        RepositoryAction::InitiateLayerUpload => {
            let request = client.initiate_layer_upload().registry_id(account_id);
            let request = request.repository_name(repository);
            request.send().await.map(drop).map_err(|error| failure(&error))
        }
        RepositoryAction::PublicCheckLayer => {
            let request = public.batch_check_layer_availability().registry_id(account_id);
            let request = request.repository_name(repository).layer_digests(LAYER);
            request.send().await.map(drop).map_err(|error| failure(&error))
        }
        RepositoryAction::PublicInitiateUpload => {
            let request = public.initiate_layer_upload().registry_id(account_id);
            let request = request.repository_name(repository);
            request.send().await.map(drop).map_err(|error| failure(&error))
        }
    }
}
