//! The requests that there are: their keys, versions and headers, and one type over all of them.
//!
//! Every request and response of the table can be decoded and encoded in each of its versions. Which of them a broker
//! advertises is the session's choice; [`ApiKey::advertised`] is what Kafka 4.3 says.
//!
//! HAZARD: Produce is advertised from version 0 on though only 3 and above can be decoded. librdkafka takes a broker
//! without version 0 for one that cannot decompress, and silently sends everything uncompressed (KAFKA-18659).

use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;

use super::message::*;
use super::reader::{Reader, WireError};
use super::schema::Message;
use super::writer::Writer;

/// The body of a request, and what answers it.
pub trait Ask: Into<Request> {
    /// The body of the response.
    type Answer;
    /// Which request it is.
    const KEY: ApiKey;

    /// Takes the body out of a response; `None` if that answers something else.
    fn answer(response: Response) -> Option<Self::Answer>;
}

macro_rules! apis {
    (@advertised $request:ident) => { $request::VERSIONS };
    (@advertised $request:ident, $min:literal..=$max:literal) => { $min..=$max };

    ($($name:ident = $key:literal, $request:ident, $response:ident $(, advertised $min:literal..=$max:literal)?;)*) => {
        /// Which request is meant.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("Key ", stringify!($key), ": [`", stringify!($request), "`].")] $name = $key,)*
        }

        impl ApiKey {
            /// Every request, by its key.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The request with this key.
            #[must_use]
            pub fn from_number(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The protocol's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The versions that can be decoded.
            #[must_use]
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $request::VERSIONS,)*
                }
            }

            /// The versions that a broker tells clients.
            #[must_use]
            pub fn advertised(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => apis!(@advertised $request $(, $min..=$max)?),)*
                }
            }

            fn is_flexible(self, version: i16) -> bool {
                match self {
                    $(Self::$name => $request::format(version).flexible,)*
                }
            }
        }

        /// Any request.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(#[doc = concat!("Key ", stringify!($key), ".")] $name($request),)*
        }

        impl Request {
            /// Takes the body of a request.
            ///
            /// # Errors
            /// [`WireError`].
            pub fn decode(key: ApiKey, version: i16, reader: &mut Reader) -> Result<Self, WireError> {
                match key {
                    $(ApiKey::$name => $request::decode(reader, version).map(Self::$name),)*
                }
            }

            /// Appends the body.
            ///
            /// # Panics
            /// If `version` is not one that can be decoded.
            pub fn encode(&self, writer: &mut Writer, version: i16) {
                match self {
                    $(Self::$name(body) => body.encode(writer, version),)*
                }
            }

            /// Which request this is.
            #[must_use]
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// A request that `version` can carry.
            #[cfg(test)]
            pub(super) fn draw(draw: &mut super::Draw, key: ApiKey, version: i16) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(super::value::Field::draw(draw, $request::format(version))),)*
                }
            }
        }

        /// Any response.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $(#[doc = concat!("Key ", stringify!($key), ".")] $name($response),)*
        }

        impl Response {
            /// Takes the body of a response.
            ///
            /// # Errors
            /// [`WireError`].
            pub fn decode(key: ApiKey, version: i16, reader: &mut Reader) -> Result<Self, WireError> {
                match key {
                    $(ApiKey::$name => $response::decode(reader, version).map(Self::$name),)*
                }
            }

            /// Appends the body.
            ///
            /// # Panics
            /// If `version` is not one that can be decoded.
            pub fn encode(&self, writer: &mut Writer, version: i16) {
                match self {
                    $(Self::$name(body) => body.encode(writer, version),)*
                }
            }

            /// Which request this answers.
            #[must_use]
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// A response that `version` can carry.
            #[cfg(test)]
            pub(super) fn draw(draw: &mut super::Draw, key: ApiKey, version: i16) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(super::value::Field::draw(draw, $response::format(version))),)*
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(body: $request) -> Self {
                    Self::$name(body)
                }
            }

            impl From<$response> for Response {
                fn from(body: $response) -> Self {
                    Self::$name(body)
                }
            }

            impl Ask for $request {
                type Answer = $response;
                const KEY: ApiKey = ApiKey::$name;

                fn answer(response: Response) -> Option<$response> {
                    match response {
                        Response::$name(body) => Some(body),
                        _ => None,
                    }
                }
            }
        )*
    };
}

apis! {
    Produce = 0, ProduceRequest, ProduceResponse, advertised 0..=13;
    Fetch = 1, FetchRequest, FetchResponse;
    ListOffsets = 2, ListOffsetsRequest, ListOffsetsResponse;
    Metadata = 3, MetadataRequest, MetadataResponse;
    OffsetCommit = 8, OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch = 9, OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator = 10, FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup = 11, JoinGroupRequest, JoinGroupResponse;
    Heartbeat = 12, HeartbeatRequest, HeartbeatResponse;
    LeaveGroup = 13, LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup = 14, SyncGroupRequest, SyncGroupResponse;
    DescribeGroups = 15, DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups = 16, ListGroupsRequest, ListGroupsResponse;
    SaslHandshake = 17, SaslHandshakeRequest, SaslHandshakeResponse;
    ApiVersions = 18, ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics = 19, CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics = 20, DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords = 21, DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId = 22, InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    AddPartitionsToTxn = 24, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
    AddOffsetsToTxn = 25, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
    EndTxn = 26, EndTxnRequest, EndTxnResponse;
    TxnOffsetCommit = 28, TxnOffsetCommitRequest, TxnOffsetCommitResponse;
    DescribeAcls = 29, DescribeAclsRequest, DescribeAclsResponse;
    CreateAcls = 30, CreateAclsRequest, CreateAclsResponse;
    DeleteAcls = 31, DeleteAclsRequest, DeleteAclsResponse;
    DescribeConfigs = 32, DescribeConfigsRequest, DescribeConfigsResponse;
    AlterConfigs = 33, AlterConfigsRequest, AlterConfigsResponse;
    DescribeLogDirs = 35, DescribeLogDirsRequest, DescribeLogDirsResponse, advertised 1..=4;
    SaslAuthenticate = 36, SaslAuthenticateRequest, SaslAuthenticateResponse;
    CreatePartitions = 37, CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteGroups = 42, DeleteGroupsRequest, DeleteGroupsResponse;
    ElectLeaders = 43, ElectLeadersRequest, ElectLeadersResponse;
    IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    AlterPartitionReassignments = 45, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    ListPartitionReassignments = 46, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    OffsetDelete = 47, OffsetDeleteRequest, OffsetDeleteResponse;
    DescribeClientQuotas = 48, DescribeClientQuotasRequest, DescribeClientQuotasResponse;
    AlterClientQuotas = 49, AlterClientQuotasRequest, AlterClientQuotasResponse;
    DescribeUserScramCredentials = 50, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
    AlterUserScramCredentials = 51, AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse;
    UpdateFeatures = 57, UpdateFeaturesRequest, UpdateFeaturesResponse;
    DescribeCluster = 60, DescribeClusterRequest, DescribeClusterResponse;
    DescribeProducers = 61, DescribeProducersRequest, DescribeProducersResponse;
    DescribeTransactions = 65, DescribeTransactionsRequest, DescribeTransactionsResponse;
    ListTransactions = 66, ListTransactionsRequest, ListTransactionsResponse;
    ConsumerGroupHeartbeat = 68, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe = 69, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    GetTelemetrySubscriptions = 71, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse;
    PushTelemetry = 72, PushTelemetryRequest, PushTelemetryResponse;
    ListConfigResources = 74, ListConfigResourcesRequest, ListConfigResourcesResponse;
    DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    ShareGroupHeartbeat = 76, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse;
    ShareGroupDescribe = 77, ShareGroupDescribeRequest, ShareGroupDescribeResponse;
    ShareFetch = 78, ShareFetchRequest, ShareFetchResponse;
    ShareAcknowledge = 79, ShareAcknowledgeRequest, ShareAcknowledgeResponse;
    DescribeShareGroupOffsets = 90, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse;
    AlterShareGroupOffsets = 91, AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse;
    DeleteShareGroupOffsets = 92, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse;
}

impl ApiKey {
    /// The key as it is sent.
    #[must_use]
    pub fn number(self) -> i16 {
        self as i16
    }

    /// Which header a request of this version has: 2 if it is flexible, else 1.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Which header the response has: 1 if it is flexible, else 0. That of ApiVersions is always 0, since a client that
    /// does not know the broker yet must be able to read it (KIP-511).
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::ApiVersions && self.is_flexible(version))
    }

    /// What an ApiVersions response says of this request.
    #[must_use]
    pub fn api_version(self) -> ApiVersion {
        let range = self.advertised();
        ApiVersion { api_key: self.number(), min_version: *range.start(), max_version: *range.end() }
    }
}

impl Display for ApiKey {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
