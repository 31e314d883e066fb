//! PerWorker liveness, clause by clause.
