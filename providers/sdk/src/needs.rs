//! What a registry with certain settings needs from the operator.

/// The requests that a registry sends, and the host of its images.
///
/// ```
/// use rise_provider::Needs;
///
/// let needs = Needs::requests(["POST https://login.example.com/oauth2/token"])
///     .image_host("images.example.com");
/// assert_eq!(needs.image_host.as_deref(), Some("images.example.com"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Every request, such as `POST https://registry.example.com/api/{project}/tokens`; a path
    /// stands for everything below it. An empty list: none. `None`: what is at the origin of the
    /// setting `base_url`.
    pub requests: Option<Vec<String>>,
    /// The host of the images. `None`: the host of the setting `registry_url` or `base_url`.
    pub image_host: Option<String>,
}

impl Needs {
    /// The registry sends these requests and no others.
    pub fn requests<T: Into<String>>(requests: impl IntoIterator<Item = T>) -> Self {
        let requests = requests.into_iter().map(Into::into).collect();
        Self { requests: Some(requests), image_host: None }
    }

    /// Sets the host of the images, with a port if needed.
    #[must_use]
    pub fn image_host(mut self, host: impl Into<String>) -> Self {
        self.image_host = Some(host.into());
        self
    }
}
