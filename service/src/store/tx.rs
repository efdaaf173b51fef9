use super::{link::Link, registry::Registry, signals::Effects};
use crate::{domain::Timestamp, entropy::Entropy};

/// What the statements of one batch share.
pub(super) struct Tx<'a> {
    pub(super) link: Link<'a>,
    /// The batch happens at this one moment.
    pub(super) now: Timestamp,
    pub(super) entropy: &'a Entropy,
    pub(super) registry: &'a mut Registry,
    /// What is to be told to others once the transaction is committed.
    pub(super) effects: &'a mut Effects,
    pub(super) deliveries_max: u32,
}
