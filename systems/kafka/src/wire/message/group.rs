//! Classic groups, and what is asked about groups of any kind.

use bytes::Bytes;

use super::super::schema::schema;

schema! {
    /// Asks which broker coordinates a group, a transactional id or a share partition.
    FindCoordinatorRequest(0..=6, flexible 3) {
        key: String [..=3],
        key_type: i8 [1..],
        coordinator_keys: Vec<String> [4..],
    }

    /// The coordinators.
    FindCoordinatorResponse(0..=6, flexible 3) {
        throttle_time_ms: i32 [1..],
        error_code: i16 [..=3],
        error_message: Option<String> [1..=3],
        node_id: i32 [..=3],
        host: String [..=3],
        port: i32 [..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    /// One of the `coordinators` of a [`FindCoordinatorResponse`].
    Coordinator {
        key: String,
        node_id: i32,
        host: String,
        port: i32,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Joins a classic group.
    JoinGroupRequest(0..=9, flexible 6) {
        group_id: String,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32 [1..] = -1,
        member_id: String,
        group_instance_id: Option<String> [5..],
        protocol_type: String,
        protocols: Vec<JoinGroupRequestProtocol>,
        reason: Option<String> [8..],
    }

    /// One of the `protocols` of a [`JoinGroupRequest`].
    JoinGroupRequestProtocol {
        name: String,
        metadata: Bytes,
    }

    /// The generation that came of it; for the leader, also the members.
    JoinGroupResponse(0..=9, flexible 6) {
        throttle_time_ms: i32 [2..],
        error_code: i16,
        generation_id: i32 = -1,
        protocol_type: Option<String> [7..],
        protocol_name: Option<String> [..; null 7..],
        leader: String,
        skip_assignment: bool [9..],
        member_id: String,
        members: Vec<JoinGroupResponseMember>,
    }

    /// One of the `members` of a [`JoinGroupResponse`].
    JoinGroupResponseMember {
        member_id: String,
        group_instance_id: Option<String> [5..],
        metadata: Bytes,
    }

    /// Says that a member of a classic group lives.
    HeartbeatRequest(0..=4, flexible 4) {
        group_id: String,
        generation_id: i32,
        member_id: String,
        group_instance_id: Option<String> [3..],
    }

    /// Whether the member still belongs.
    HeartbeatResponse(0..=4, flexible 4) {
        throttle_time_ms: i32 [1..],
        error_code: i16,
    }

    /// Leaves a classic group.
    LeaveGroupRequest(0..=5, flexible 4) {
        group_id: String,
        member_id: String [..=2],
        members: Vec<MemberIdentity> [3..],
    }

    /// One of the `members` of a [`LeaveGroupRequest`].
    MemberIdentity {
        member_id: String,
        group_instance_id: Option<String>,
        reason: Option<String> [5..],
    }

    /// Who has left.
    LeaveGroupResponse(0..=5, flexible 4) {
        throttle_time_ms: i32 [1..],
        error_code: i16,
        members: Vec<MemberResponse> [3..],
    }

    /// One of the `members` of a [`LeaveGroupResponse`].
    MemberResponse {
        member_id: String,
        group_instance_id: Option<String>,
        error_code: i16,
    }

    /// Asks for a member's assignment; the leader brings all of them.
    SyncGroupRequest(0..=5, flexible 4) {
        group_id: String,
        generation_id: i32,
        member_id: String,
        group_instance_id: Option<String> [3..],
        protocol_type: Option<String> [5..],
        protocol_name: Option<String> [5..],
        assignments: Vec<SyncGroupRequestAssignment>,
    }

    /// One of the `assignments` of a [`SyncGroupRequest`].
    SyncGroupRequestAssignment {
        member_id: String,
        assignment: Bytes,
    }

    /// The assignment.
    SyncGroupResponse(0..=5, flexible 4) {
        throttle_time_ms: i32 [1..],
        error_code: i16,
        protocol_type: Option<String> [5..],
        protocol_name: Option<String> [5..],
        assignment: Bytes,
    }

    /// Asks for the state of classic groups.
    DescribeGroupsRequest(0..=6, flexible 5) {
        groups: Vec<String>,
        include_authorized_operations: bool [3..],
    }

    /// Groups and their members.
    DescribeGroupsResponse(0..=6, flexible 5) {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup>,
    }

    /// One of the `groups` of a [`DescribeGroupsResponse`].
    DescribedGroup {
        error_code: i16,
        error_message: Option<String> [6..],
        group_id: String,
        group_state: String,
        protocol_type: String,
        protocol_data: String,
        members: Vec<DescribedGroupMember>,
        authorized_operations: i32 [3..] = i32::MIN,
    }

    /// One of the `members` of a [`DescribedGroup`].
    DescribedGroupMember {
        member_id: String,
        group_instance_id: Option<String> [4..],
        client_id: String,
        client_host: String,
        member_metadata: Bytes,
        member_assignment: Bytes,
    }

    /// Asks which groups there are.
    ListGroupsRequest(0..=5, flexible 3) {
        states_filter: Vec<String> [4..],
        types_filter: Vec<String> [5..],
    }

    /// The groups.
    ListGroupsResponse(0..=5, flexible 3) {
        throttle_time_ms: i32 [1..],
        error_code: i16,
        groups: Vec<ListedGroup>,
    }

    /// One of the `groups` of a [`ListGroupsResponse`].
    ListedGroup {
        group_id: String,
        protocol_type: String,
        group_state: String [4..],
        group_type: String [5..],
    }

    /// Deletes groups.
    DeleteGroupsRequest(0..=2, flexible 2) {
        groups_names: Vec<String>,
    }

    /// Which groups were deleted.
    DeleteGroupsResponse(0..=2, flexible 2) {
        throttle_time_ms: i32,
        results: Vec<DeletableGroupResult>,
    }

    /// One of the `results` of a [`DeleteGroupsResponse`].
    DeletableGroupResult {
        group_id: String,
        error_code: i16,
    }
}
