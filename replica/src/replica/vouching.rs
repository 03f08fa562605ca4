//! Replies that wait until others vouch for them, everything behind them, and answers that f + 1 members sign.
//!
//! Deliberately absent: what vouching is (`crate::vouch`) and what a certificate says (`crate::certify`).

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Consistency, Failure, RequestId, SessionInput};
use verity_types::{GroupId, Incarnation, LogIndex, Mono, NodeId, Token};

use super::{OPERATOR, Output, Replica, ServiceId, Work};
use crate::certify::{ANSWER_WAIT, Asked, Certificate, Signature, WITNESSED_MAX, Witnessed};
use crate::frame::Frame;
use crate::group::Group;
use crate::lane::Waiting;
use crate::reads::PendingRead;
use crate::vouch::{ASK_AFTER, Behind, Tag, Tags, Verdict, WAIT_MAX};

/// Whose reads become certificates of this node.
pub(super) const CERTIFIER: ServiceId = ServiceId(usize::MAX - 1);
/// Whose reads are signed for another node's.
pub(super) const WITNESS: ServiceId = ServiceId(usize::MAX - 2);

impl Replica {
    // ---- replies

    /// Does this, or has it done once the replies that are before it have left.
    pub(super) fn in_order(&mut self, id: GroupId, work: Work) {
        match self.groups.get_mut(&id) {
            Some(group) if !group.behind.is_empty() => group.behind.push_back(Behind::Work(work)),
            _ => self.work.push_back(work),
        }
    }

    /// The reply to a command of this node is there.
    pub(super) fn reply(&mut self, now: Now, id: GroupId, request: RequestId, waiting: &Waiting, bytes: Bytes) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let completed =
            |result| Work::Service(waiting.service, SessionInput::Completed { token: waiting.token, result });
        if group.enough().is_none() {
            return self.work.push_back(completed(Ok(bytes)));
        }
        let (sequence, tag) = (request.sequence, Tag::of(&bytes));
        let (work, unknown) = (completed(Ok(bytes)), completed(Err(Failure::Unavailable)));
        group.behind.push_back(Behind::Reply { sequence, tag, since: now.mono, work, unknown });
        self.release(id);
    }

    /// Lets go what enough members vouch for, and what is behind it up to the next that is not.
    pub(super) fn release(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(enough) = group.enough() else { return };
        loop {
            match group.behind.front() {
                Some(Behind::Reply { sequence, tag, .. }) => match group.vouching.verdict(*sequence, *tag, enough) {
                    Verdict::Wait => return,
                    Verdict::Vouched => group.vouching.settle(*sequence),
                    Verdict::Contradicted => {
                        let reason = "others came to another reply than this node: its state is damaged";
                        return self.out.push(Output::Fatal(format!("group {id}: {reason}")));
                    }
                },
                Some(Behind::Work(_)) => {}
                None => return,
            }
            match group.behind.pop_front() {
                Some(Behind::Reply { work, .. } | Behind::Work(work)) => self.work.push_back(work),
                None => return,
            }
        }
    }

    /// Tells the others what their commands came to here.
    pub(super) fn tell_replies(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        for (origin, tags) in group.vouching.take_untold() {
            self.post(origin, &Frame::Told { group: id, tags });
        }
    }

    pub(super) fn on_told(&mut self, from: NodeId, id: GroupId, tags: &Tags) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| group.members.voters.contains(&from)) else { return };
        if tags.incarnation == group.lane.incarnation() {
            group.vouching.on_told(from, tags, group.lane.next());
            self.release(id);
        }
    }

    pub(super) fn on_tell_again(&mut self, from: NodeId, id: GroupId, incarnation: Incarnation, first: u64) {
        let tags = self.groups.get(&id).and_then(|group| group.vouching.again(from, incarnation, first));
        if let Some(tags) = tags {
            self.post(from, &Frame::Told { group: id, tags });
        }
    }

    /// Asks again for what was lost, and gives up what nobody can vouch for.
    pub(super) fn look_after_replies(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(Behind::Reply { sequence, since, .. }) = group.behind.front() else { return };
        let (sequence, waits) = (*sequence, now.mono.since(*since));
        if waits >= WAIT_MAX {
            if let Some(Behind::Reply { unknown, .. }) = group.behind.pop_front() {
                group.vouching.settle(sequence);
                self.work.push_back(unknown);
                self.release(id);
            }
        } else if waits >= ASK_AFTER && now.mono.since(group.asked_at) >= ASK_AFTER {
            group.asked_at = now.mono;
            let incarnation = group.lane.incarnation();
            self.post_to_voters(id, &Frame::TellAgain { group: id, incarnation, first: sequence });
        }
    }

    /// Says something to all other voters of a group.
    fn post_to_voters(&mut self, id: GroupId, frame: &Frame) {
        let mut others = self.groups.get(&id).map(|group| group.members.voters.clone()).unwrap_or_default();
        others.remove(&self.config.id);
        for node in others {
            self.post(node, frame);
        }
    }

    // ---- certificates

    /// Asks a group's state machine for an answer that f + 1 members sign. [`Output::Answer`] follows, with the bytes of a
    /// [`Certificate`]; an engine that trusts its members has none.
    pub fn certify(&mut self, now: Now, group: GroupId, token: Token, query: Bytes) {
        if self.groups.get(&group).is_none_or(Group::trusts) {
            return self.out.push(Output::Answer { token, result: Err(Failure::NoSuchGroup) });
        }
        self.asked.insert(token, Asked::new(group, query.clone(), now.mono));
        self.on_read(
            group,
            PendingRead { service: CERTIFIER, token, query, since: now.mono },
            Consistency::Linearizable,
        );
    }

    /// This node's own answer to what is to be certified.
    pub(super) fn on_own_answer(&mut self, token: Token, result: Result<Bytes, Failure>) {
        let Some(asked) = self.asked.get_mut(&token) else { return };
        let group = asked.group;
        let answer = match (result, self.groups.get(&group)) {
            (Ok(answer), Some(_)) => answer,
            (result, _) => {
                self.asked.remove(&token);
                let result = Err(result.err().unwrap_or(Failure::NoSuchGroup));
                return self.out.push(Output::Answer { token, result });
            }
        };
        asked.answer = Some(answer);
        asked.signatures.clear();
        let hosted = &self.groups[&group];
        let (query, index) = (asked.query.clone(), hosted.whole());
        self.post_to_voters(group, &Frame::Certify { group, token, index, query });
        self.complete_certificate(token);
    }

    /// Another node wants this one's signature under an answer.
    pub(super) fn on_certify(
        &mut self,
        now: Now,
        from: NodeId,
        group: GroupId,
        token: Token,
        index: LogIndex,
        query: Bytes,
    ) {
        let member = self.groups.get(&group).is_some_and(|group| group.members.voters.contains(&from));
        if !member || self.witnessed.len() >= WITNESSED_MAX {
            return;
        }
        self.next_witnessed += 1;
        let own = Token(self.next_witnessed);
        self.witnessed.insert(own, Witnessed { group, to: from, token, query: query.clone() });
        self.on_read(
            group,
            PendingRead { service: WITNESS, token: own, query, since: now.mono },
            Consistency::AtLeast(index),
        );
    }

    /// The answer that another node wants to be signed.
    pub(super) fn on_witnessed(&mut self, token: Token, result: Result<Bytes, Failure>) {
        let Some(Witnessed { group, to, token, query }) = self.witnessed.remove(&token) else { return };
        let Some(witness) = self.groups.get(&group).and_then(|group| group.engine.witness()) else { return };
        let Ok(answer) = result else { return };
        let signature = witness.sign(Certificate::statement(&query, &answer));
        self.post(to, &Frame::Signed { group, token, signature: Signature::of(&answer, signature) });
    }

    pub(super) fn on_signed(&mut self, from: NodeId, token: Token, signature: Signature) {
        let Some(asked) = self.asked.get_mut(&token) else { return };
        let hosted = self.groups.get(&asked.group).filter(|group| group.members.voters.contains(&from));
        let Some(witness) = hosted.and_then(|group| group.engine.witness()) else { return };
        let Some(answer) = &asked.answer else { return };
        let statement = Certificate::statement(&asked.query, answer);
        if signature.is_of(answer) && witness.is_signed(from, statement, &signature.bytes) {
            asked.signatures.insert(from, signature.bytes);
            self.complete_certificate(token);
        }
    }

    fn complete_certificate(&mut self, token: Token) {
        let Some(asked) = self.asked.get(&token) else { return };
        let Some(witness) = self.groups.get(&asked.group).and_then(|group| group.engine.witness()) else { return };
        let Some(answer) = asked.answer.clone().filter(|_| asked.signatures.len() + 1 >= witness.enough()) else {
            return;
        };
        let mut signatures = asked.signatures.clone();
        signatures.insert(self.config.id, witness.sign(Certificate::statement(&asked.query, &answer)));
        let (scope, query) = (witness.scope(), asked.query.clone());
        let certificate = Certificate { scope, query, answer, signatures };
        self.asked.remove(&token);
        self.out.push(Output::Answer { token, result: Ok(certificate.encode()) });
    }

    /// What changes while it is asked for is asked for again; what nobody signs is given up.
    pub(super) fn look_after_certificates(&mut self, now: Mono) {
        let late: Vec<Token> = self
            .asked
            .iter()
            .filter(|(_, asked)| now.since(asked.asked_at) >= ANSWER_WAIT)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            let Some(asked) = self.asked.get_mut(&token) else { continue };
            if asked.may_ask_again(now) {
                let (group, query) = (asked.group, asked.query.clone());
                self.on_read(
                    group,
                    PendingRead { service: CERTIFIER, token, query, since: now },
                    Consistency::Linearizable,
                );
            } else {
                self.asked.remove(&token);
                self.out.push(Output::Answer { token, result: Err(Failure::Unavailable) });
            }
        }
    }

    /// Completions that are this module's own; gives back what is not.
    pub(super) fn take_own(&mut self, service: ServiceId, input: SessionInput) -> Option<(ServiceId, SessionInput)> {
        match (service, input) {
            (OPERATOR, SessionInput::Completed { token, result }) => self.out.push(Output::Answer { token, result }),
            (CERTIFIER, SessionInput::Completed { token, result }) => self.on_own_answer(token, result),
            (WITNESS, SessionInput::Completed { token, result }) => self.on_witnessed(token, result),
            // Bytes of files are no answer that could be signed.
            (CERTIFIER, SessionInput::CompletedInFile { token, .. }) => {
                self.on_own_answer(token, Err(Failure::Unavailable));
            }
            (WITNESS, SessionInput::CompletedInFile { token, .. }) => {
                self.on_witnessed(token, Err(Failure::Unavailable))
            }
            other => return Some(other),
        }
        None
    }
}
