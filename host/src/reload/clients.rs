//! AWS clients that outlive a generation: with them their connections, and the keys that they hold for a while.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;

use crate::capability::aws::Aws;
use crate::capability::aws::ceiling::AwsSettings;
use crate::domain::Secret;
use crate::registries::ConnectAws;

/// Opens a client only where no generation has one for the same settings and keys.
pub struct OpenClients<T> {
    connect: T,
    open: Mutex<Vec<Open>>,
}

struct Open {
    settings: AwsSettings,
    keys: Option<(Arc<Secret>, Arc<Secret>)>,
    /// Held by the registries that use it.
    client: Weak<dyn Aws>,
}

impl<T: ConnectAws> OpenClients<T> {
    pub fn new(connect: T) -> Self {
        Self { connect, open: Mutex::default() }
    }

    fn find(
        &self,
        settings: &AwsSettings,
        keys: Option<&(Arc<Secret>, Arc<Secret>)>,
    ) -> Option<Arc<dyn Aws>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|it| it.client.strong_count() > 0);
        let found =
            open.iter().find(|it| it.settings == *settings && are_same(it.keys.as_ref(), keys));
        found.and_then(|it| it.client.upgrade())
    }
}

fn are_same(
    one: Option<&(Arc<Secret>, Arc<Secret>)>,
    other: Option<&(Arc<Secret>, Arc<Secret>)>,
) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some((id, secret)), Some((other_id, other_secret))) => {
            id.expose() == other_id.expose() && secret.expose() == other_secret.expose()
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[async_trait]
impl<T: ConnectAws> ConnectAws for OpenClients<T> {
    async fn connect(
        &self,
        settings: AwsSettings,
        keys: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws> {
        if let Some(client) = self.find(&settings, keys.as_ref()) {
            return client;
        }
        let client = self.connect.connect(settings.clone(), keys.clone()).await;
        let open = Open { settings, keys, client: Arc::downgrade(&client) };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        client
    }
}
