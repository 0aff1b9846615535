//! Reloading: which generation serves, and how the next one takes its place.
//!
//! `watch` decides when to check for changes, `reloader` what comes of them. A request is served to
//! its end by the generation that served when it came.
//!
//! **Invariant:** a generation is exchanged as a whole, and only for one that was checked like the
//! first. Whatever is wrong with the next one, the last good one stays in use.

mod reloader;
mod watch;

pub use reloader::{READ_AT_START, Reloader, Source};
pub use watch::watch;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use tower::ServiceExt;

use crate::broker::Broker;
use crate::http;

/// The generation that serves.
pub struct Current(ArcSwap<Serving>);

/// A generation and the routers whose handlers see it and no other.
struct Serving {
    broker: Broker,
    public: Router,
    admin: Router,
}

impl Current {
    pub fn new(broker: Broker) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Serving::new(broker))))
    }

    pub fn broker(&self) -> Broker {
        self.0.load().broker.clone()
    }

    /// What callers reach. Each request goes to the generation that serves when it comes.
    pub fn router(self: &Arc<Self>) -> Router {
        self.route_to(|serving| &serving.public)
    }

    /// What operators and orchestrators reach.
    pub fn admin_router(self: &Arc<Self>) -> Router {
        self.route_to(|serving| &serving.admin)
    }

    fn route_to(self: &Arc<Self>, router: fn(&Serving) -> &Router) -> Router {
        let current = Arc::clone(self);
        Router::new().fallback(move |request: Request| {
            let router = router(&current.0.load()).clone();
            async move { router.oneshot(request).await }
        })
    }

    fn replace(&self, broker: Broker) {
        self.0.store(Arc::new(Serving::new(broker)));
    }
}

impl Serving {
    fn new(broker: Broker) -> Self {
        Self {
            public: http::router(broker.clone()),
            admin: http::admin_router(broker.clone()),
            broker,
        }
    }
}
