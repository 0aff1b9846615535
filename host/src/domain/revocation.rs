//! Why the broker ends a credential.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationCause {
    /// The granted lifetime is over, and the registry would let it live longer.
    GrantedEnd,
    /// Its mint failed or was interrupted, so that nobody got it.
    NotIssued,
    /// Everybody who got it has given it back.
    Returned,
    /// An operator ends it.
    Operator,
}

impl RevocationCause {
    pub const ALL: [Self; 4] = [Self::GrantedEnd, Self::NotIssued, Self::Returned, Self::Operator];

    /// The word for it in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GrantedEnd => "granted-end",
            Self::NotIssued => "not-issued",
            Self::Returned => "returned",
            Self::Operator => "operator",
        }
    }
}
