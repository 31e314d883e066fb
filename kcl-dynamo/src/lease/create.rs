//! Opening the lease table: finding it, checking its keys, or creating it with its index.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, Projection, ProjectionType, ProvisionedThroughput, ScalarAttributeType,
    TableDescription, TableStatus, Tag,
};
use kcl_core::{LeaseError, TableName};

use super::error::{Call, Place};
use super::schema::{LEASE_KEY, LEASE_OWNER, OWNER_INDEX};
use super::table::DynamoLeaseTable;

/// How the table is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Billing {
    /// By request.
    #[default]
    OnDemand,
    /// By capacity units a second, of the table and of its index alike.
    Provisioned {
        /// Read units.
        read: i64,
        /// Write units.
        write: i64,
    },
}

/// Whether a missing table is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Create {
    /// It is, and then waited for.
    #[default]
    IfMissing,
    /// It is an error. `dynamodb:DescribeTable` is then the only permission that opening needs.
    Never,
}

/// What the lease table is called and how it is made. Only `name` matters when it exists.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LeaseTableOptions {
    /// The table.
    pub name: TableName,
    /// What to do when there is none.
    pub create: Create,
    /// How a new table is paid for.
    pub billing: Billing,
    /// Tags of a new table.
    pub tags: Vec<(String, String)>,
    /// Whether a new table refuses to be deleted. Off by default.
    pub deletion_protection: bool,
    /// Whether a new table keeps backups of every second. Off by default. Needs `dynamodb:UpdateContinuousBackups`.
    pub point_in_time_recovery: bool,
    /// After this a call counts as lost. It must be below a third of the lease duration; 3 s by default.
    pub operation_timeout: Duration,
    /// How long a new table may take to become active; 5 minutes by default.
    pub active_timeout: Duration,
    /// How often a table that is not active yet is asked for; every second by default.
    pub active_poll: Duration,
    /// The most items that a page of a scan holds; the service's 1 MB alone by default.
    pub scan_page_size: Option<i32>,
}

impl LeaseTableOptions {
    /// The table `name`, created if it is missing, with the defaults.
    #[must_use]
    pub fn new(name: TableName) -> Self {
        Self {
            name,
            create: Create::default(),
            billing: Billing::default(),
            tags: Vec::new(),
            deletion_protection: false,
            point_in_time_recovery: false,
            operation_timeout: Duration::from_secs(3),
            active_timeout: Duration::from_secs(300),
            active_poll: Duration::from_secs(1),
            scan_page_size: None,
        }
    }
}

/// Why there is no table to work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Create it, or let this library do so.
    #[error("there is no table {table} in {region}, and it is not to be created")]
    Missing {
        /// The table.
        table: String,
        /// Where it was looked for.
        region: String,
    },
    /// Give the lease table (or the reader registry) another name: this one belongs to something else. Nothing was written to it.
    #[error("table {table} is not {wanted}: its key is {found}, not the text {key} alone")]
    OtherSchema {
        /// The table.
        table: String,
        /// What it was to be.
        wanted: &'static str,
        /// The key of such a table.
        key: &'static str,
        /// Its key.
        found: String,
    },
    /// Grant the permission.
    #[error("access denied: grant dynamodb:{action} on table {table}")]
    Denied {
        /// The table.
        table: String,
        /// The IAM action that is missing, without the service prefix.
        action: &'static str,
        /// The answer.
        source: LeaseError,
    },
    /// Open it again later: it exists, and is not active yet or any more.
    #[error("table {table} is not active after {waited:?}: it is {status}")]
    NotActive {
        /// The table.
        table: String,
        /// The service's word for its state.
        status: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Open it again later if the cause is retryable; otherwise it says what to change.
    #[error("table {table} could not be opened")]
    Failed {
        /// The table.
        table: String,
        /// The failed call.
        source: LeaseError,
    },
}

const DESCRIBE: Call = Call { operation: "open", action: "DescribeTable", writes: false };
const CREATE: Call = Call { operation: "open", action: "CreateTable", writes: true };
const BACKUPS: Call = Call { operation: "open", action: "UpdateContinuousBackups", writes: true };

impl DynamoLeaseTable {
    /// Finds the lease table, or creates it, and returns once it is active.
    ///
    /// `client` may retry; the calls of the lease table itself are sent once each, within `options.operation_timeout`.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping it may leave a table that is being created; opening again finds it.
    pub async fn open(client: &Client, options: LeaseTableOptions) -> Result<Self, OpenError> {
        open_table(client, &options, Layout::LEASES).await?;
        Ok(Self::unopened(client, &options))
    }

    /// The table that [`Self::open`] with the same arguments opens. Nothing is called; it need not exist yet.
    pub(crate) fn unopened(client: &Client, options: &LeaseTableOptions) -> Self {
        let place = Place::of(client, options);
        Self { client: once(client, options), place, page_size: options.scan_page_size }
    }
}

/// Finds a table, or creates it, and returns once it is active.
pub(crate) async fn open_table(client: &Client, options: &LeaseTableOptions, layout: Layout) -> Result<(), OpenError> {
    let opening = Opening { client, place: Place::of(client, options), options, layout };
    if !opening.exists().await? {
        opening.create().await?;
    }
    Ok(())
}

/// The same client, which sends each call once and within the time that the options allow.
pub(crate) fn once(client: &Client, options: &LeaseTableOptions) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(options.operation_timeout)
        .operation_attempt_timeout(options.operation_timeout);
    let config = client.config().to_builder().retry_config(RetryConfig::disabled());
    Client::from_conf(config.timeout_config(timeouts.build()).build())
}

/// What a table's key is, and what the table is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    what: &'static str,
    key: &'static str,
    owner_index: bool,
}

impl Layout {
    pub(crate) const LEASES: Self = Self { what: "a lease table", key: LEASE_KEY, owner_index: true };
    pub(crate) const READERS: Self =
        Self { what: "a reader registry", key: crate::readers::STREAM_ARN, owner_index: false };
}

impl Place {
    pub(crate) fn of(client: &Client, options: &LeaseTableOptions) -> Self {
        let region = client.config().region().map_or_else(|| "an unknown region".to_owned(), ToString::to_string);
        Self { table: options.name.to_string(), region }
    }
}

struct Opening<'a> {
    client: &'a Client,
    place: Place,
    options: &'a LeaseTableOptions,
    layout: Layout,
}

impl Opening<'_> {
    /// Whether there is a table of ours that is active. One of another schema is an error before anything is written.
    async fn exists(&self) -> Result<bool, OpenError> {
        let Some(table) = self.describe().await? else {
            return match self.options.create {
                Create::IfMissing => Ok(false),
                Create::Never => {
                    Err(OpenError::Missing { table: self.place.table.clone(), region: self.place.region.clone() })
                }
            };
        };
        self.check_keys(&table)?;
        if !is_usable(&table) {
            self.wait_until_active().await?;
        }
        Ok(true)
    }

    async fn describe(&self) -> Result<Option<TableDescription>, OpenError> {
        match self.client.describe_table().table_name(&self.place.table).send().await {
            Ok(described) => Ok(described.table),
            Err(SdkError::ServiceError(answer)) if answer.err().is_resource_not_found_exception() => Ok(None),
            Err(error) => Err(self.failed(DESCRIBE, error)),
        }
    }

    fn check_keys(&self, table: &TableDescription) -> Result<(), OpenError> {
        let keys: Vec<String> = table
            .key_schema()
            .iter()
            .map(|key| {
                let of_key = |a: &&AttributeDefinition| a.attribute_name() == key.attribute_name();
                let kind =
                    table.attribute_definitions().iter().find(of_key).map_or("?", |a| a.attribute_type().as_str());
                format!("{} ({kind}, {})", key.attribute_name(), key.key_type().as_str())
            })
            .collect();
        let Layout { what: wanted, key, .. } = self.layout;
        if keys == [format!("{key} (S, HASH)")] {
            return Ok(());
        }
        Err(OpenError::OtherSchema { table: self.place.table.clone(), wanted, key, found: keys.join(" and ") })
    }

    async fn create(&self) -> Result<(), OpenError> {
        let request = self.request().map_err(|error| OpenError::Failed {
            table: self.place.table.clone(),
            source: CREATE.invalid("a request lacks a field").with_source(error),
        })?;
        match request.send().await {
            Ok(_) => {}
            // Another worker creates it at this moment.
            Err(SdkError::ServiceError(answer)) if answer.err().is_resource_in_use_exception() => {}
            Err(error) => return Err(self.failed(CREATE, error)),
        }
        self.wait_until_active().await?;
        if self.options.point_in_time_recovery {
            self.keep_backups().await?;
        }
        Ok(())
    }

    fn request(&self) -> Result<CreateTableFluentBuilder, BuildError> {
        let text = |name: &str| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
        let mut index = GlobalSecondaryIndex::builder()
            .index_name(OWNER_INDEX)
            .key_schema(key(LEASE_OWNER, KeyType::Hash)?)
            .key_schema(key(LEASE_KEY, KeyType::Range)?)
            .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
        let mut request = self
            .client
            .create_table()
            .table_name(&self.place.table)
            .attribute_definitions(text(self.layout.key)?)
            .key_schema(key(self.layout.key, KeyType::Hash)?);
        match self.options.billing {
            Billing::OnDemand => request = request.billing_mode(BillingMode::PayPerRequest),
            Billing::Provisioned { read, write } => {
                let units =
                    ProvisionedThroughput::builder().read_capacity_units(read).write_capacity_units(write).build()?;
                index = index.provisioned_throughput(units.clone());
                request = request.billing_mode(BillingMode::Provisioned).provisioned_throughput(units);
            }
        }
        for (key, value) in &self.options.tags {
            request = request.tags(Tag::builder().key(key).value(value).build()?);
        }
        if self.options.deletion_protection {
            request = request.deletion_protection_enabled(true);
        }
        if self.layout.owner_index {
            request = request.attribute_definitions(text(LEASE_OWNER)?).global_secondary_indexes(index.build()?);
        }
        Ok(request)
    }

    async fn wait_until_active(&self) -> Result<(), OpenError> {
        let poll = self.options.active_poll.max(Duration::from_millis(10));
        let (mut waited, mut status) = (Duration::ZERO, "not listed yet".to_owned());
        loop {
            // Right after its creation a table may not be described yet.
            if let Some(table) = self.describe().await? {
                self.check_keys(&table)?;
                if is_usable(&table) {
                    return Ok(());
                }
                status = table.table_status().map_or("without a status", TableStatus::as_str).to_owned();
            }
            if waited >= self.options.active_timeout {
                return Err(OpenError::NotActive { table: self.place.table.clone(), status, waited });
            }
            tokio::time::sleep(poll).await;
            waited += poll;
        }
    }

    async fn keep_backups(&self) -> Result<(), OpenError> {
        let on = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
        let on = on.map_err(|error| OpenError::Failed {
            table: self.place.table.clone(),
            source: BACKUPS.invalid("a request lacks a field").with_source(error),
        })?;
        let request = self.client.update_continuous_backups().table_name(&self.place.table);
        match request.point_in_time_recovery_specification(on).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(BACKUPS, error)),
        }
    }

    fn failed<E>(&self, call: Call, error: SdkError<E, HttpResponse>) -> OpenError
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let source = call.classify(error, &self.place);
        let table = self.place.table.clone();
        match source.kind() {
            kcl_core::LeaseErrorKind::Denied { action } => OpenError::Denied { table, action, source },
            _ => OpenError::Failed { table, source },
        }
    }
}

/// A table that is being updated serves reads and writes.
fn is_usable(table: &TableDescription) -> bool {
    matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating))
}
