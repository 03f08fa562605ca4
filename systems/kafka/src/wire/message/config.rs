//! Configurations.

use super::super::schema::schema;

schema! {
    /// Asks for configurations.
    DescribeConfigsRequest(1..=4, flexible 4) {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }

    /// One of the `resources` of a [`DescribeConfigsRequest`].
    DescribeConfigsResource {
        resource_type: i8,
        resource_name: String,
        configuration_keys: Option<Vec<String>>,
    }

    /// The configurations, and where each value comes from.
    DescribeConfigsResponse(1..=4, flexible 4) {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }

    /// One of the `results` of a [`DescribeConfigsResponse`].
    DescribeConfigsResult {
        error_code: i16,
        error_message: Option<String>,
        resource_type: i8,
        resource_name: String,
        configs: Vec<DescribeConfigsResourceResult>,
    }

    /// One of the `configs` of a [`DescribeConfigsResult`].
    DescribeConfigsResourceResult {
        name: String,
        value: Option<String>,
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        config_type: i8 [3..],
        documentation: Option<String> [3..],
    }

    /// One of the `synonyms` of a [`DescribeConfigsResourceResult`].
    DescribeConfigsSynonym {
        name: String,
        value: Option<String>,
        source: i8,
    }

    /// Replaces configurations as a whole.
    AlterConfigsRequest(0..=2, flexible 2) {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }

    /// One of the `resources` of an [`AlterConfigsRequest`].
    AlterConfigsResource {
        resource_type: i8,
        resource_name: String,
        configs: Vec<AlterableConfig>,
    }

    /// One of the `configs` of an [`AlterConfigsResource`].
    AlterableConfig {
        name: String,
        value: Option<String>,
    }

    /// Which were replaced.
    AlterConfigsResponse(0..=2, flexible 2) {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }

    /// One of the `responses` of an [`AlterConfigsResponse`].
    AlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<String>,
        resource_type: i8,
        resource_name: String,
    }

    /// Changes single entries of configurations.
    IncrementalAlterConfigsRequest(0..=1, flexible 1) {
        resources: Vec<IncrementalAlterConfigsResource>,
        validate_only: bool,
    }

    /// One of the `resources` of an [`IncrementalAlterConfigsRequest`].
    IncrementalAlterConfigsResource {
        resource_type: i8,
        resource_name: String,
        configs: Vec<IncrementalAlterableConfig>,
    }

    /// One of the `configs` of an [`IncrementalAlterConfigsResource`].
    IncrementalAlterableConfig {
        name: String,
        config_operation: i8,
        value: Option<String>,
    }

    /// Which were changed.
    IncrementalAlterConfigsResponse(0..=1, flexible 1) {
        throttle_time_ms: i32,
        responses: Vec<IncrementalAlterConfigsResourceResponse>,
    }

    /// One of the `responses` of an [`IncrementalAlterConfigsResponse`].
    IncrementalAlterConfigsResourceResponse {
        error_code: i16,
        error_message: Option<String>,
        resource_type: i8,
        resource_name: String,
    }

    /// Asks which resources have a configuration.
    ListConfigResourcesRequest(0..=1, flexible 0) {
        resource_types: Vec<i8> [1..],
    }

    /// The resources.
    ListConfigResourcesResponse(0..=1, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        config_resources: Vec<ListConfigResourcesConfigResource>,
    }

    /// One of the `config_resources` of a [`ListConfigResourcesResponse`].
    ListConfigResourcesConfigResource {
        resource_name: String,
        resource_type: i8 [1..] = 16,
    }
}
