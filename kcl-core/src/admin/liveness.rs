//! Changing how the death of a worker is seen, while no worker runs.

use std::time::Duration;

use super::access::Table;
use super::strip::{refused_by_life, shows_life, signs_of_life};
use super::{Admin, AdminError};
use crate::contract::{Liveness, SCHEMA_VERSION, TableMeta};
use crate::model::{KeyForm, LeaseKey};

/// Long enough for what was written before to show in a scan.
const UNTIL_SCANS_SHOW: Duration = Duration::from_secs(2);

impl Admin {
    /// Marks the table with another [`Liveness`]. Returns the one that it had.
    ///
    /// **Every worker must have ended.** Where items show a worker or an owner, they are watched for `watch`, which must be the fleet's
    /// lease duration or more; whatever moves meanwhile is a refusal. Items of workers that stood still are removed. A worker that
    /// starts meanwhile is noticed, and either it or this call is refused.
    ///
    /// # Errors
    /// `FleetLives`, `TooNew`, `Table`.
    ///
    /// # Cancel safety
    /// The table may be left without a mark. Calling it again finishes the job; a worker that starts instead marks it as configured.
    pub async fn change_liveness(&self, to: Liveness, watch: Duration) -> Result<Liveness, AdminError> {
        let mut table = self.access.look().await?;
        let from = table.liveness();
        if table.meta.is_some_and(|meta| meta.liveness == to) {
            return Ok(from);
        }
        if shows_life(&table) {
            self.access.rt().sleep(watch).await;
            let now = self.access.look().await?;
            lives(signs_of_life(&table, &now))?;
            table = now;
        }
        for worker in &table.workers {
            let sign = format!("the worker {} moved", worker.id);
            refused_by_life(self.access.request(|table| table.delete_worker(worker)).await, sign)?;
        }
        // Without a mark for a while: a worker marks the table with what it takes it for once it has registered, so one that starts now
        // shows by its mark, and one that started before by its item.
        if let Some(meta) = &table.meta {
            let sign = "the meta item was written".to_owned();
            refused_by_life(self.access.request(|table| table.delete_meta(meta)).await, sign)?;
        }
        let old = table.meta.unwrap_or_else(|| marked(&table, from));
        self.access.rt().sleep(UNTIL_SCANS_SHOW).await;
        let now = self.access.look().await?;
        let started: Vec<String> =
            now.workers.iter().map(|worker| format!("the worker {} started", worker.id)).collect();
        let wanted = if started.is_empty() { marked(&table, to) } else { old };
        let stands = self.access.request(|table| async move { table.fix_meta(&wanted).await }).await?;
        lives(started)?;
        match stands.liveness == to {
            true => Ok(from),
            false => lives(vec!["a worker started, and marked the table".to_owned()]).map(|()| from),
        }
    }
}

fn lives(signs: Vec<String>) -> Result<(), AdminError> {
    if signs.is_empty() { Ok(()) } else { Err(AdminError::FleetLives { signs }) }
}

fn marked(table: &Table, liveness: Liveness) -> TableMeta {
    let bare = table.leases.keys().any(|key: &LeaseKey| !key.is_qualified());
    let guessed = if bare { KeyForm::Bare } else { KeyForm::Qualified };
    let key_form = table.meta.map_or(guessed, |meta| meta.key_form);
    TableMeta { schema: SCHEMA_VERSION, liveness, key_form }
}
