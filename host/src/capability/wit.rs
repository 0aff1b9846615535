//! The contract in `wit/`, as Rust. Generated, nothing by hand.
//!
//! **Invariant:** neither `tracing` nor `verbose_tracing` is ever set here. They write string
//! arguments and results to the log, and some of ours are passwords.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "provider",
    imports: {
        "rise:registry/aws": async | trappable,
        "rise:registry/ecr-repositories": async | trappable,
        "rise:registry/http.send": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "rise:registry/types.secret": crate::capability::secrets::SecretHandle,
        "rise:registry/types.grant": crate::capability::GrantHandle,
        "rise:registry/aws.session": crate::capability::aws::Session,
        "rise:registry/http.request": crate::capability::http::Request,
        "rise:registry/http.response": crate::capability::http::Response,
    },
    require_store_data_send: true,
});

/// The exports that a component may have as well, each in a world of its own.
pub mod endpoints {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "with-endpoints",
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub mod repositories {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "with-repositories",
        exports: { default: async },
        with: { "rise:registry/types": super::rise::registry::types },
        require_store_data_send: true,
    });
}

pub mod leftovers {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "with-leftovers",
        exports: { default: async },
        with: { "rise:registry/types": super::rise::registry::types },
        require_store_data_send: true,
    });
}

pub mod revocation {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "with-revocation",
        exports: { default: async },
        with: { "rise:registry/types": super::rise::registry::types },
        require_store_data_send: true,
    });
}
