//! The life of one repository on the official SDK.

use std::collections::BTreeMap;

use aws_config::{Region, SdkConfig};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::SdkError;
use aws_sdk_ecr::operation::create_repository::builders::CreateRepositoryFluentBuilder;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    Repository, Tag,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::failure::failure;
use crate::capability::aws::AwsError;
use crate::capability::aws::repository::{
    Encryption, NewRepository, RepositoryAnswer, RepositoryCall, RepositoryDescription,
    RepositoryPage, RepositoryPlace,
};
use crate::config::TagMutability;

/// The most repositories that ECR returns at once.
const PAGE: i32 = 1_000;

type Answer = Result<RepositoryAnswer, AwsError>;

/// One attempt.
pub(super) async fn attempt(
    config: SdkConfig,
    place: RepositoryPlace,
    call: RepositoryCall,
) -> Answer {
    let config = config.into_builder().region(Region::new(place.region.clone())).build();
    let client = Client::new(&config);
    let (arn, account, name) = (place.arn(), place.account_id, place.repository);
    match call {
        RepositoryCall::Describe => {
            let request = client.describe_repositories().registry_id(account);
            let answer = request.repository_names(&name).send().await;
            answer.map_or_else(other, |answer| Ok(described(answer.repositories, &name)))
        }
        RepositoryCall::Tags => {
            let answer = client.list_tags_for_resource().resource_arn(arn).send().await;
            answer.map_or_else(other, |answer| Ok(tagged(answer.tags)))
        }
        RepositoryCall::Lifecycle => {
            let request = client.get_lifecycle_policy().registry_id(account).repository_name(name);
            let policy = |text| RepositoryAnswer::Lifecycle(text);
            let answer = request.send().await;
            answer.map_or_else(other, |answer| Ok(policy(answer.lifecycle_policy_text)))
        }
        RepositoryCall::Create(new) => {
            let request = client.create_repository().registry_id(account).repository_name(name);
            done(created_as(request, new)?.send().await)
        }
        RepositoryCall::PutLifecycle(policy) => {
            let request = client.put_lifecycle_policy().registry_id(account).repository_name(name);
            done(request.lifecycle_policy_text(policy).send().await)
        }
        RepositoryCall::PutScanning(on) => {
            let request = client.put_image_scanning_configuration().registry_id(account);
            let request = request.repository_name(name);
            done(request.image_scanning_configuration(scanning(on)).send().await)
        }
        RepositoryCall::PutMutability(mutability) => {
            let request = client.put_image_tag_mutability().registry_id(account);
            let request = request.repository_name(name).image_tag_mutability(words(mutability));
            done(request.send().await)
        }
        RepositoryCall::Tag(tags) => {
            let request = client.tag_resource().resource_arn(arn).set_tags(Some(as_tags(tags)));
            done(request.send().await)
        }
        RepositoryCall::Untag(keys) => {
            let request = client.untag_resource().resource_arn(arn).set_tag_keys(Some(keys));
            done(request.send().await)
        }
        RepositoryCall::Delete => {
            let request = client.delete_repository().registry_id(account).repository_name(name);
            done(request.force(true).send().await)
        }
    }
}

/// One attempt to read a page of the account's repositories.
pub(super) async fn page(
    config: SdkConfig,
    place: RepositoryPlace,
    token: Option<String>,
) -> Result<RepositoryPage, AwsError> {
    let config = config.into_builder().region(Region::new(place.region)).build();
    let request = Client::new(&config).describe_repositories().registry_id(place.account_id);
    let answer = request.max_results(PAGE).set_next_token(token).send().await;
    let answer = answer.map_err(|error| failure(&error))?;
    let named =
        |found: Repository| Some((found.repository_name()?.to_owned(), description(&found)));
    let repositories = answer.repositories.unwrap_or_default().into_iter().filter_map(named);
    Ok(RepositoryPage { repositories: repositories.collect(), token: answer.next_token })
}

fn described(found: Option<Vec<Repository>>, name: &str) -> RepositoryAnswer {
    let mut found = found.unwrap_or_default().into_iter();
    let Some(found) = found.find(|found| found.repository_name() == Some(name)) else {
        return RepositoryAnswer::Absent;
    };
    RepositoryAnswer::Description(description(&found))
}

fn description(found: &Repository) -> RepositoryDescription {
    let mutability = found.image_tag_mutability();
    let scanning = found.image_scanning_configuration();
    let encryption = found.encryption_configuration();
    let is_aes = encryption.is_none_or(|it| *it.encryption_type() == EncryptionType::Aes256);
    let key = encryption.and_then(EncryptionConfiguration::kms_key).map(str::to_owned);
    RepositoryDescription {
        mutability: mutability.unwrap_or(&ImageTagMutability::Mutable).as_str().to_owned(),
        scan_on_push: scanning.is_some_and(ImageScanningConfiguration::scan_on_push),
        encryption: if is_aes { Encryption::Aes256 } else { Encryption::Kms(key) },
    }
}

fn tagged(tags: Option<Vec<Tag>>) -> RepositoryAnswer {
    let tags = tags.unwrap_or_default().into_iter();
    RepositoryAnswer::Tags(tags.map(|tag| (tag.key, tag.value)).collect())
}

fn created_as(
    request: CreateRepositoryFluentBuilder,
    new: NewRepository,
) -> Result<CreateRepositoryFluentBuilder, AwsError> {
    let NewRepository { mutability, scan_on_push, encryption, tags } = new;
    let (kind, key) = match encryption {
        Encryption::Aes256 => (EncryptionType::Aes256, None),
        Encryption::Kms(key) => (EncryptionType::Kms, key),
    };
    let encryption = EncryptionConfiguration::builder().encryption_type(kind).set_kms_key(key);
    let encryption = encryption.build().map_err(|error| AwsError::Nonsense(error.to_string()))?;
    Ok(request
        .set_tags(Some(as_tags(tags)))
        .image_tag_mutability(words(mutability))
        .image_scanning_configuration(scanning(scan_on_push))
        .encryption_configuration(encryption))
}

fn words(mutability: TagMutability) -> ImageTagMutability {
    match mutability {
        TagMutability::Mutable => ImageTagMutability::Mutable,
        TagMutability::Immutable => ImageTagMutability::Immutable,
    }
}

fn scanning(on: bool) -> ImageScanningConfiguration {
    ImageScanningConfiguration::builder().scan_on_push(on).build()
}

fn as_tags(tags: BTreeMap<String, String>) -> Vec<Tag> {
    let tag = |(key, value)| Tag::builder().key(key).value(value).build().ok();
    tags.into_iter().filter_map(tag).collect()
}

fn done<T, E>(answer: Result<T, SdkError<E>>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    answer.map_or_else(other, |_| Ok(RepositoryAnswer::Done))
}

/// The errors that tell what there is, and all others.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_or_else` asks for")]
fn other<E>(error: SdkError<E>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.as_service_error().and_then(ProvideErrorMetadata::code) {
        Some("RepositoryNotFoundException") => Ok(RepositoryAnswer::Absent),
        Some("RepositoryAlreadyExistsException") => Ok(RepositoryAnswer::Exists),
        Some("LifecyclePolicyNotFoundException") => Ok(RepositoryAnswer::Lifecycle(None)),
        Some(_) | None => Err(failure(&error)),
    }
}
