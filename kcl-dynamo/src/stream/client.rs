//! The client that a source owns, made from what the user configured.

use aws_sdk_dynamodbstreams::Config;
use aws_sdk_dynamodbstreams::config::retry::RetryConfig;
use aws_sdk_dynamodbstreams::config::timeout::TimeoutConfig;
use aws_sdk_dynamodbstreams::config::{BehaviorVersion, SharedHttpClient, StalledStreamProtectionConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use super::StreamOptions;

/// What a configuration lacks, so that no call could succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// There is no region.
    #[error("the AWS configuration names no region: set AWS_REGION, the profile's region, or .region(..) in code")]
    NoRegion,
    /// There is nothing that could give credentials.
    #[error(
        "the AWS configuration has no credentials provider: load it with aws_config, or set .credentials_provider(..)"
    )]
    NoCredentials,
}

/// The user's configuration, with the engine's rules for retries and time.
pub(super) fn configure(config: &Config, options: &StreamOptions) -> Config {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.request_timeout)
        .operation_timeout(options.request_timeout)
        .build();
    let http = config.http_client().unwrap_or_else(https_client);
    config
        .to_builder()
        // Set before any default of it can matter: a client without one panics.
        .behavior_version(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        // Every call has a deadline already, and a page that is being kept gives its reader nothing until it is whole.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .http_client(http)
        .build()
}

/// Used where the configuration brings no HTTP client.
pub(crate) fn https_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https()
}

/// The endpoint that the user set for everything or for streams, in code, in the environment or in the profile.
pub(super) fn own_endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("DynamoDB Streams")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    config
        .service_config()
        .and_then(|services| services.load_config(key))
        .or_else(|| config.endpoint_url().map(str::to_owned))
}
