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
    /// It was found at the registry by its name, and the broker has no record of it.
    Leftover,
}

impl RevocationCause {
    pub const ALL: [Self; 5] =
        [Self::GrantedEnd, Self::NotIssued, Self::Returned, Self::Operator, Self::Leftover];

    /// The word for it in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GrantedEnd => "granted-end",
            Self::NotIssued => "not-issued",
            Self::Returned => "returned",
            Self::Operator => "operator",
            Self::Leftover => "leftover",
        }
    }
}
