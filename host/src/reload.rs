//! Generations: what serves now, and how the next one takes its place.
//!
//! One generation is an [`App`]: catalog, registries, rules, issuers, limits. A request is served to its end by the one that it
//! came to. `watch` says when to look, `next` what comes of it.
//!
//! **Invariant:** a generation is exchanged as a whole, and only for one that was checked like the first; whatever is wrong,
//! the last good one serves on.

mod clients;
mod next;
mod watch;

pub use clients::OpenClients;
pub use next::{Reloader, Source};
pub use watch::watch;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use tower::ServiceExt;

use crate::app::App;
use crate::http;

/// The generation that serves.
pub struct Current(ArcSwap<Generation>);

struct Generation {
    app: Arc<App>,
    public: Router,
    admin: Router,
}

impl Current {
    pub fn new(app: App) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Generation::new(app))))
    }

    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.0.load().app)
    }

    /// What callers reach. Each request is handed to the generation that serves when it comes.
    pub fn router(self: &Arc<Self>) -> Router {
        self.hand_on(|generation| &generation.public)
    }

    /// What operators and orchestrators reach.
    pub fn admin_router(self: &Arc<Self>) -> Router {
        self.hand_on(|generation| &generation.admin)
    }

    fn hand_on(self: &Arc<Self>, to: fn(&Generation) -> &Router) -> Router {
        let current = Arc::clone(self);
        Router::new().fallback(move |request: Request| {
            let router = to(&current.0.load()).clone();
            async move { router.oneshot(request).await }
        })
    }

    fn replace(&self, app: App) {
        self.0.store(Arc::new(Generation::new(app)));
    }
}

impl Generation {
    fn new(app: App) -> Self {
        let app = Arc::new(app);
        Self {
            public: http::router(Arc::clone(&app)),
            admin: http::admin_router(Arc::clone(&app)),
            app,
        }
    }
}
