//! The loops that carry decisions out. They hold no policy.

mod bootstrap;
mod call;
mod consumer;
mod deliver;
mod directory;
mod fetch;
mod fleet;
mod holding;
mod keeper;
mod member;
mod memory;
mod open;
mod pulse;
mod readers;
mod resolve;
mod session;
mod subscription;
mod take;
mod told;
mod unknown;

pub(crate) use consumer::Factory;
pub(crate) use directory::ListingBudget;
pub(crate) use fleet::{Drained, Fleet, WorkEnd};
pub(crate) use member::{Member, MemberSetting};
pub(crate) use memory::ByteBudget;
pub(crate) use open::{Configured, fix, recheck, survey};
pub(crate) use readers::{NotAdmitted, Readers};
pub(crate) use resolve::resolve_patiently;
pub use resolve::{ResolveError, ResolvedStream, StreamSpec, resolve};
pub(crate) use session::Session;
pub(crate) use subscription::Subscription;
pub(crate) use take::TableAccess;
pub(crate) use told::{Denials, describe};
