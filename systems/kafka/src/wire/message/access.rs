//! Who someone is, and what they may do how fast.

use bytes::Bytes;

use super::super::schema::schema;

schema! {
    /// Chooses a SASL mechanism.
    SaslHandshakeRequest(0..=1) {
        mechanism: String,
    }

    /// Whether it is known, and those that are.
    SaslHandshakeResponse(0..=1) {
        error_code: i16,
        mechanisms: Vec<String>,
    }

    /// One step of a SASL exchange.
    SaslAuthenticateRequest(0..=2, flexible 2) {
        auth_bytes: Bytes,
    }

    /// The server's answer to it.
    SaslAuthenticateResponse(0..=2, flexible 2) {
        error_code: i16,
        error_message: Option<String>,
        auth_bytes: Bytes,
        session_lifetime_ms: i64 [1..],
    }

    /// Asks for access rules.
    DescribeAclsRequest(1..=3, flexible 2) {
        resource_type_filter: i8,
        resource_name_filter: Option<String>,
        pattern_type_filter: i8 = 3,
        principal_filter: Option<String>,
        host_filter: Option<String>,
        operation: i8,
        permission_type: i8,
    }

    /// The rules that match.
    DescribeAclsResponse(1..=3, flexible 2) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        resources: Vec<DescribeAclsResource>,
    }

    /// One of the `resources` of a [`DescribeAclsResponse`].
    DescribeAclsResource {
        resource_type: i8,
        resource_name: String,
        pattern_type: i8 = 3,
        acls: Vec<AclDescription>,
    }

    /// One of the `acls` of a [`DescribeAclsResource`].
    AclDescription {
        principal: String,
        host: String,
        operation: i8,
        permission_type: i8,
    }

    /// Adds access rules.
    CreateAclsRequest(1..=3, flexible 2) {
        creations: Vec<AclCreation>,
    }

    /// One of the `creations` of a [`CreateAclsRequest`].
    AclCreation {
        resource_type: i8,
        resource_name: String,
        resource_pattern_type: i8 = 3,
        principal: String,
        host: String,
        operation: i8,
        permission_type: i8,
    }

    /// Which rules were added.
    CreateAclsResponse(1..=3, flexible 2) {
        throttle_time_ms: i32,
        results: Vec<AclCreationResult>,
    }

    /// One of the `results` of a [`CreateAclsResponse`].
    AclCreationResult {
        error_code: i16,
        error_message: Option<String>,
    }

    /// Removes access rules.
    DeleteAclsRequest(1..=3, flexible 2) {
        filters: Vec<DeleteAclsFilter>,
    }

    /// One of the `filters` of a [`DeleteAclsRequest`].
    DeleteAclsFilter {
        resource_type_filter: i8,
        resource_name_filter: Option<String>,
        pattern_type_filter: i8 = 3,
        principal_filter: Option<String>,
        host_filter: Option<String>,
        operation: i8,
        permission_type: i8,
    }

    /// Which rules were removed.
    DeleteAclsResponse(1..=3, flexible 2) {
        throttle_time_ms: i32,
        filter_results: Vec<DeleteAclsFilterResult>,
    }

    /// One of the `filter_results` of a [`DeleteAclsResponse`].
    DeleteAclsFilterResult {
        error_code: i16,
        error_message: Option<String>,
        matching_acls: Vec<DeleteAclsMatchingAcl>,
    }

    /// One of the `matching_acls` of a [`DeleteAclsFilterResult`].
    DeleteAclsMatchingAcl {
        error_code: i16,
        error_message: Option<String>,
        resource_type: i8,
        resource_name: String,
        pattern_type: i8 = 3,
        principal: String,
        host: String,
        operation: i8,
        permission_type: i8,
    }

    /// Asks for quotas.
    DescribeClientQuotasRequest(0..=1, flexible 1) {
        components: Vec<DescribeClientQuotasComponentData>,
        strict: bool,
    }

    /// One of the `components` of a [`DescribeClientQuotasRequest`].
    DescribeClientQuotasComponentData {
        entity_type: String,
        match_type: i8,
        r#match: Option<String>,
    }

    /// The quotas that match.
    DescribeClientQuotasResponse(0..=1, flexible 1) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        entries: Option<Vec<DescribeClientQuotasEntryData>>,
    }

    /// One of the `entries` of a [`DescribeClientQuotasResponse`].
    DescribeClientQuotasEntryData {
        entity: Vec<DescribeClientQuotasEntityData>,
        values: Vec<DescribeClientQuotasValueData>,
    }

    /// One of the `entity` of a [`DescribeClientQuotasEntryData`].
    DescribeClientQuotasEntityData {
        entity_type: String,
        entity_name: Option<String>,
    }

    /// One of the `values` of a [`DescribeClientQuotasEntryData`].
    DescribeClientQuotasValueData {
        key: String,
        value: f64,
    }

    /// Changes quotas.
    AlterClientQuotasRequest(0..=1, flexible 1) {
        entries: Vec<AlterClientQuotasRequestEntryData>,
        validate_only: bool,
    }

    /// One of the `entries` of an [`AlterClientQuotasRequest`].
    AlterClientQuotasRequestEntryData {
        entity: Vec<AlterClientQuotasRequestEntityData>,
        ops: Vec<AlterClientQuotasOpData>,
    }

    /// One of the `entity` of an [`AlterClientQuotasRequestEntryData`].
    AlterClientQuotasRequestEntityData {
        entity_type: String,
        entity_name: Option<String>,
    }

    /// One of the `ops` of an [`AlterClientQuotasRequestEntryData`].
    AlterClientQuotasOpData {
        key: String,
        value: f64,
        remove: bool,
    }

    /// Which were changed.
    AlterClientQuotasResponse(0..=1, flexible 1) {
        throttle_time_ms: i32,
        entries: Vec<AlterClientQuotasResponseEntryData>,
    }

    /// One of the `entries` of an [`AlterClientQuotasResponse`].
    AlterClientQuotasResponseEntryData {
        error_code: i16,
        error_message: Option<String>,
        entity: Vec<AlterClientQuotasResponseEntityData>,
    }

    /// One of the `entity` of an [`AlterClientQuotasResponseEntryData`].
    AlterClientQuotasResponseEntityData {
        entity_type: String,
        entity_name: Option<String>,
    }

    /// Asks which SCRAM credentials users have.
    DescribeUserScramCredentialsRequest(0..=0, flexible 0) {
        users: Option<Vec<DescribeUserScramCredentialsUserName>>,
    }

    /// One of the `users` of a [`DescribeUserScramCredentialsRequest`].
    DescribeUserScramCredentialsUserName {
        name: String,
    }

    /// The mechanisms and iterations; never the secrets.
    DescribeUserScramCredentialsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        results: Vec<DescribeUserScramCredentialsResult>,
    }

    /// One of the `results` of a [`DescribeUserScramCredentialsResponse`].
    DescribeUserScramCredentialsResult {
        user: String,
        error_code: i16,
        error_message: Option<String>,
        credential_infos: Vec<ScramCredentialInfo>,
    }

    /// One of the `credential_infos` of a [`DescribeUserScramCredentialsResult`].
    ScramCredentialInfo {
        mechanism: i8,
        iterations: i32,
    }

    /// Sets and deletes SCRAM credentials.
    AlterUserScramCredentialsRequest(0..=0, flexible 0) {
        deletions: Vec<ScramCredentialDeletion>,
        upsertions: Vec<ScramCredentialUpsertion>,
    }

    /// One of the `deletions` of an [`AlterUserScramCredentialsRequest`].
    ScramCredentialDeletion {
        name: String,
        mechanism: i8,
    }

    /// One of the `upsertions` of an [`AlterUserScramCredentialsRequest`].
    ScramCredentialUpsertion {
        name: String,
        mechanism: i8,
        iterations: i32,
        salt: Bytes,
        salted_password: Bytes,
    }

    /// Which were changed.
    AlterUserScramCredentialsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        results: Vec<AlterUserScramCredentialsResult>,
    }

    /// One of the `results` of an [`AlterUserScramCredentialsResponse`].
    AlterUserScramCredentialsResult {
        user: String,
        error_code: i16,
        error_message: Option<String>,
    }
}
