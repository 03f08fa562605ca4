//! A member of a classic consumer group, which every broker coordinates.
//!
//! - upon [`Member::join`]: it joins, and if it leads the group, says who has which partitions;
//! - upon [`Member::beat`], at least every [`BEAT_EVERY`]: it says that it lives. The coordinator may say that others come or
//!   go: it joins again, after it has committed how far it is;
//! - upon [`Member::leave`]: others get its partitions at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use verity_kafka::client::{Assignment, Subscription, assign, decode_assignment, encode_assignment};
use verity_kafka::wire::ErrorCode;
use verity_kafka::wire::message::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest, MemberIdentity,
    SyncGroupRequest, SyncGroupRequestAssignment,
};

use super::admin::Offsets;
use super::client::Client;
use super::failure::Failure;

const PROTOCOL_TYPE: &str = "consumer";
/// The way of assigning that the group's leader follows.
const RANGE: &str = "range";
/// A member that says nothing for this long is taken for dead.
const SESSION: Duration = Duration::from_secs(30);
/// How long others may take to join again.
const REBALANCE: Duration = Duration::from_secs(60);
/// How often a member says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// One member.
pub(crate) struct Member {
    client: Client,
    group: String,
    topic: String,
    id: String,
    generation: i32,
    last_beat: Instant,
}

fn ms(span: Duration) -> i32 {
    i32::try_from(span.as_millis()).expect("a constant that fits")
}

impl Member {
    /// Of this group, for this topic; not yet in it.
    pub(crate) fn new(client: &Client, group: &str, topic: &str) -> Self {
        let (client, group, topic) = (client.clone(), group.to_owned(), topic.to_owned());
        Self { client, group, topic, id: String::new(), generation: -1, last_beat: Instant::now() }
    }

    fn about(&self) -> String {
        format!("group {}", self.group)
    }

    /// Joins; the partitions that it has from here on, each with the offset to go on from, if one was committed.
    pub(crate) async fn join(&mut self) -> Result<BTreeMap<i32, Option<i64>>, Failure> {
        let client = self.client.clone();
        let mine = client.patiently(async || self.try_join().await).await?;
        let committed = self.client.committed(&self.group).await?;
        let topic = self.topic.clone();
        let partitions = mine.get(&topic).into_iter().flatten();
        Ok(partitions.map(|index| (*index, committed.get(&(topic.clone(), *index)).copied())).collect())
    }

    async fn try_join(&mut self) -> Result<Assignment, Failure> {
        let joined = self.ask_to_join().await?;
        (self.id, self.generation) = (joined.member_id.clone(), joined.generation_id);
        let assignments =
            if joined.leader == self.id && !joined.skip_assignment { self.divide(&joined).await? } else { Vec::new() };
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: joined.protocol_name,
            assignments,
            ..Default::default()
        };
        let answer = self.client.ask_coordinator(&self.group, request, REBALANCE).await?;
        self.joining(answer.error_code)?;
        self.last_beat = Instant::now();
        decode_assignment(&answer.assignment)
            .map_err(|error| Failure::Lasting(format!("{}: an assignment that cannot be read: {error}", self.about())))
    }

    async fn ask_to_join(&mut self) -> Result<JoinGroupResponse, Failure> {
        loop {
            let metadata = Subscription(vec![self.topic.clone()]).encode();
            let request = JoinGroupRequest {
                group_id: self.group.clone(),
                session_timeout_ms: ms(SESSION),
                rebalance_timeout_ms: ms(REBALANCE),
                member_id: self.id.clone(),
                protocol_type: PROTOCOL_TYPE.to_owned(),
                protocols: vec![JoinGroupRequestProtocol { name: RANGE.to_owned(), metadata }],
                ..Default::default()
            };
            let answer = self.client.ask_coordinator(&self.group, request, REBALANCE).await?;
            match ErrorCode(answer.error_code) {
                // The coordinator names the newcomer first, who asks again by this name.
                ErrorCode::MEMBER_ID_REQUIRED => self.id = answer.member_id,
                ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
                    let why = "its members divide partitions in a way that is not spoken here (range)";
                    return Err(Failure::Lasting(format!("{}: {why}", self.about())));
                }
                _ => {
                    self.joining(answer.error_code)?;
                    return Ok(answer);
                }
            }
        }
    }

    /// What everybody is to have.
    async fn divide(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>, Failure> {
        let members: BTreeMap<String, Subscription> = joined
            .members
            .iter()
            .map(|member| (member.member_id.clone(), Subscription::decode(&member.metadata).unwrap_or_default()))
            .collect();
        let mut counts = BTreeMap::new();
        for topic in members.values().flat_map(|wants| &wants.0) {
            if !counts.contains_key(topic)
                && let Ok(found) = self.client.topic(topic).await
            {
                counts.insert(topic.clone(), i32::try_from(found.partitions.len()).unwrap_or(i32::MAX));
            }
        }
        let all = assign(&members, &counts).into_iter();
        Ok(all
            .map(|(member_id, has)| SyncGroupRequestAssignment { member_id, assignment: encode_assignment(&has) })
            .collect())
    }

    /// Says that it lives, if it is time. False if it must join again.
    pub(crate) async fn beat(&mut self) -> Result<bool, Failure> {
        if self.last_beat.elapsed() < BEAT_EVERY {
            return Ok(true);
        }
        self.last_beat = Instant::now();
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        let beaten = match self.client.ask_coordinator(&self.group, request, Duration::ZERO).await {
            Ok(answer) => Failure::check(answer.error_code, self.about()),
            Err(failure) => Err(failure),
        };
        match beaten {
            Ok(()) => Ok(true),
            Err(failure) if is_thrown_out(&failure) => Ok(false),
            Err(failure) if failure.is_passing() => {
                self.client.forget();
                Ok(true)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Commits how far it is. False if it must join again, and others go on from what was committed before.
    pub(crate) async fn commit(&mut self, positions: &BTreeMap<i32, i64>) -> Result<bool, Failure> {
        if positions.is_empty() {
            return Ok(true);
        }
        let offsets: Offsets =
            positions.iter().map(|(partition, offset)| ((self.topic.clone(), *partition), *offset)).collect();
        match self.client.commit(&self.group, (&self.id, self.generation), &offsets).await {
            Ok(()) => Ok(true),
            Err(failure) if is_thrown_out(&failure) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Leaves. Whether that was heard or not, the member is gone.
    pub(crate) async fn leave(self) {
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            members: vec![MemberIdentity { member_id: self.id.clone(), ..Default::default() }],
        };
        let _ = self.client.ask_coordinator(&self.group, request, Duration::ZERO).await;
    }

    /// What a coordinator says to one who joins. One whom it does not know any more is a newcomer, and a group that has
    /// moved on is joined anew.
    fn joining(&mut self, code: i16) -> Result<(), Failure> {
        if ErrorCode(code) == ErrorCode::UNKNOWN_MEMBER_ID {
            self.id.clear();
        }
        Failure::check(code, self.about()).map_err(|failure| match is_thrown_out(&failure) {
            true => Failure::Passing(format!("{}: members come and go", self.about())),
            false => failure,
        })
    }
}

fn is_thrown_out(failure: &Failure) -> bool {
    let thrown_out = [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION, ErrorCode::REBALANCE_IN_PROGRESS];
    failure.code().is_some_and(|code| thrown_out.contains(&code))
}
