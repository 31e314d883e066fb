//! Running a worker.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::builder::WorkerBuilder;
use super::handle::{Stop, WorkerHandle};
use crate::contract::{
    LeaseError, LeaseErrorKind, LeaseTable, Liveness, Rt, StreamSource, TableMeta, TaskClass, TaskEnd,
};
use crate::model::{IdError, StreamArn, WorkerId};
use crate::policy::tenure::LeaseTiming;
use crate::runner::{
    ByteBudget, Denials, Drained, Fleet, ListingBudget, Member, MemberSetting, Readers, Session, Subscription,
    TableAccess, WorkEnd, describe, recheck,
};
use crate::surface::config::WorkerConfig;
use crate::surface::event::{EventKind, Events};
use crate::surface::status::{Board, Phase};

/// A member of a fleet that consumes streams. Made by [`Worker::builder`].
#[derive(Debug)]
pub struct Worker {
    pub(super) parts: Parts,
    pub(super) handle: WorkerHandle,
    pub(super) stop: Stop,
}

/// What every session of a worker is made of.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) rt: Rt,
    pub(super) table: Arc<dyn LeaseTable>,
    pub(super) source: Arc<dyn StreamSource>,
    pub(super) streams: Vec<(StreamArn, Arc<Subscription>)>,
    pub(super) readers: Readers,
    pub(super) config: Arc<WorkerConfig>,
    pub(super) meta: TableMeta,
    pub(super) events: Events,
    pub(super) board: Board,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Shards that were given away with everything acknowledged recorded.
    pub released: usize,
    /// Shards whose running call did not return within `shutdown_timeout`; it was dropped, and its records go to a successor.
    pub abandoned: usize,
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The lease table refuses the worker for good: a missing permission, or a table that is not ours.
    #[error("the lease table refuses the worker")]
    Table(#[from] LeaseError),
    /// The engine ended by a fault of its own. Please report it.
    #[error("the engine ended")]
    Engine(#[from] TaskEnd),
    /// The worker's name is unusable.
    #[error(transparent)]
    Name(#[from] IdError),
}

impl Worker {
    /// Describes a worker of `application` that reads from `source` and shares shards through `leases`.
    pub fn builder(
        application: impl Into<String>,
        source: Arc<dyn StreamSource>,
        leases: Arc<dyn LeaseTable>,
    ) -> WorkerBuilder {
        WorkerBuilder::new(application.into(), source, leases)
    }

    /// A handle to watch and stop the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Works until [`WorkerHandle::shutdown`] is called.
    ///
    /// # Errors
    /// See [`RunError`]. Whatever may pass by itself is retried and told as an event.
    ///
    /// # Cancel safety
    /// Dropping the future stops the worker as a crash would: nothing is lost, its leases expire.
    pub async fn run(self) -> Result<Report, RunError> {
        self.run_until(std::future::pending::<()>()).await
    }

    /// Works until `stop` is ready or [`WorkerHandle::shutdown`] is called, then stops gracefully.
    ///
    /// # Errors
    /// See [`Worker::run`].
    ///
    /// # Cancel safety
    /// See [`Worker::run`].
    pub async fn run_until<F>(self, stop: F) -> Result<Report, RunError>
    where
        F: Future + Send,
    {
        let Self { parts, stop: asked, .. } = self;
        let rt = parts.rt.clone();
        let mut engine = rt.spawn("worker", TaskClass::Lease, parts.run(asked.clone()));
        tokio::select! {
            biased;
            ended = &mut engine => return ended?,
            _ = stop => asked.gracefully.cancel(),
        }
        engine.await?
    }
}

impl Parts {
    /// Runs sessions until asked to stop: one after the other, each under a new incarnation.
    async fn run(self, stop: Stop) -> Result<Report, RunError> {
        let budget = ByteBudget::new(self.config.memory, self.config.concurrent_fetches);
        let listings = ListingBudget::new(&self.rt);
        let _ended = Ending(self.board.clone());
        let (access, mut was_member) = (self.access(), false);
        loop {
            let drawn = self.rt.next_u64();
            let name = self.config.name.clone().unwrap_or_else(|| format!("worker-{:08x}", drawn >> 32));
            let id = WorkerId::new(&name, drawn)?;
            let mut member = match self.join(&access, &id, &stop.gracefully, was_member).await? {
                Joining::Joined(member) => member,
                Joining::Again => continue,
                Joining::Stopped => return Ok(Report { released: 0, abandoned: 0 }),
            };
            was_member = true;
            self.board.joined(id.clone());
            self.events.tell(EventKind::Joined { worker: id.clone() });
            let session = Arc::new(self.session(id.clone(), (&budget, &listings), &member));
            let mut fleet = Fleet::new(session);
            let span = tracing::info_span!("fleet", worker = %id);
            let end = fleet.work(&mut member, &stop.gracefully).instrument(span.clone()).await;
            self.board.phase(Phase::Stopping);
            let drained = self.part(&mut member, fleet, end, &stop).instrument(span).await;
            self.board.parted();
            match end {
                WorkEnd::Shutdown => {
                    return Ok(Report { released: drained.released, abandoned: drained.abandoned });
                }
                WorkEnd::Fenced => self.events.tell(EventKind::Rejoining { worker: id }),
            }
        }
    }

    /// Gives the leases away and the membership up: last, so that the others know to whom nothing more is to be left, and because in
    /// PerWorker a worker without an item holds nothing.
    async fn part(&self, member: &mut Member, fleet: Fleet, end: WorkEnd, stop: &Stop) -> Drained {
        let drained = match end {
            WorkEnd::Shutdown => {
                member.announce_leaving();
                member.stay_during(fleet.leave(&stop.now)).await
            }
            WorkEnd::Fenced => fleet.drain(&stop.now).await,
        };
        let stays = self.meta.liveness == Liveness::PerWorker && drained.running && member.may_still_act();
        if stays {
            tracing::warn!("a call that runs on keeps the worker's leases until its validity ends");
        }
        let access = self.access();
        let gone = async {
            if !stays {
                member.leave().await;
            }
            access.ring().await;
        };
        if self.rt.timeout(self.timing().request_timeout(), gone).await.is_none() {
            tracing::debug!("the fleet was not told in time that the worker is gone");
        }
        drained
    }

    fn session(&self, id: WorkerId, (budget, listings): (&ByteBudget, &ListingBudget), member: &Member) -> Session {
        Session {
            id,
            access: self.access(),
            source: self.source.clone(),
            streams: self.streams.clone(),
            readers: self.readers.clone(),
            config: self.config.clone(),
            form: self.meta.key_form,
            liveness: self.meta.liveness,
            pulse: (self.meta.liveness == Liveness::PerWorker).then(|| member.pulse().clone()),
            takes: Session::takes(),
            events: self.events.clone(),
            board: self.board.clone(),
            budget: budget.clone(),
            listings: listings.clone(),
        }
    }

    fn access(&self) -> TableAccess {
        let denials = Some(Denials::new(self.events.clone(), self.rt.clone()));
        TableAccess { table: self.table.clone(), rt: self.rt.clone(), timing: self.timing(), denials }
    }

    fn timing(&self) -> LeaseTiming {
        LeaseTiming::new(self.config.lease_duration)
    }

    /// Registers, if the table answers; after a pause, if it does not. A worker that was a member before also waits for a permission or
    /// for credentials, which end the program at its start: it had them, and whoever took them away can give them back.
    async fn join(
        &self,
        access: &TableAccess,
        id: &WorkerId,
        shutdown: &CancellationToken,
        was_member: bool,
    ) -> Result<Joining, RunError> {
        let setting = MemberSetting {
            table: self.table.clone(),
            rt: self.rt.clone(),
            timing: self.timing(),
            liveness: self.meta.liveness,
            events: self.events.clone(),
            denials: access.denials.clone(),
        };
        self.board.phase(Phase::Joining);
        let registering = async {
            let waits =
                |error: LeaseError| (was_member && !matches!(error.kind(), LeaseErrorKind::Conflict { .. }), error);
            let mut member = Member::register(setting, id, self.config.weight).await.map_err(waits)?;
            if let Err(error) = recheck(access, &self.meta).await {
                member.leave().await;
                return Err((was_member && matches!(error.kind(), LeaseErrorKind::Denied { .. }), error));
            }
            Ok(member)
        };
        let registered = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(Joining::Stopped),
            registered = registering => registered,
        };
        match registered {
            Ok(member) => return Ok(Joining::Joined(member)),
            Err((waits, error)) if waits || error.is_retryable() => {
                self.board.failed(&describe(&error));
                if !access.denials.as_ref().is_some_and(|denials| denials.heed(&error)) {
                    self.events.tell(EventKind::LeaseTableUnavailable { error: describe(&error) });
                }
                let pause = self.rt.sleep(self.rt.jitter(self.config.observe_every));
                shutdown.run_until_cancelled(pause).await;
            }
            Err((_, error)) if matches!(error.kind(), LeaseErrorKind::Conflict { .. }) => {}
            Err((_, error)) => return Err(error.into()),
        }
        Ok(Joining::Again)
    }
}

/// How joining a fleet ended.
#[expect(clippy::large_enum_variant, reason = "one at a time lives")]
enum Joining {
    Joined(Member),
    /// The incarnation may have an item and nobody behind it: another is drawn.
    Again,
    /// As asked.
    Stopped,
}

/// However a run ends, also by being dropped, its status says so.
struct Ending(Board);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended();
    }
}
