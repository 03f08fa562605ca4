//! Who a client is: `auth` packets, SASL steps, whoAmI.
//!
//! - upon `digest`: the id is `user:base64(sha1(user:password))`, true for whoever knows the password; the super
//!   user's makes a super user;
//! - upon `ip` and, with a certificate, `x509`: yes, it has that id since it connected;
//! - upon `verity` with `reads=linearizable` or `reads=local`: no identity, but how fresh the connection's reads are.
//!   Any client can say so by its `addAuth`;
//! - upon anything else: refused, and closed.
//!
//! The answer bears the xid of the packet: the usual one is -4, but clients are free to count it with their requests.

use bytes::Bytes;
use verity_clock::Now;
use verity_types::ConnId;

use super::conn::Conn;
use super::sasl::{Exchange, Step};
use super::service::ZooKeeper;
use crate::machine::digest_id;
use crate::wire::{AuthPacket, Decode as _, Encode as _, ErrorCode, Id, OpCode, SaslToken, WhoAmIResponse};

impl ZooKeeper {
    pub(super) fn on_auth(&mut self, id: ConnId, xid: i32, body: &[u8]) {
        let Ok(packet) = AuthPacket::from_bytes(body) else { return self.close(id) };
        let conn = self.conns.get_mut(&id).expect("it sent the packet");
        let auth = packet.auth.unwrap_or_default();
        let granted = match packet.scheme {
            "digest" => digest_id(auth).is_some_and(|user| {
                conn.add_id("digest", &user);
                if self.config.super_digest.as_ref() == Some(&user) {
                    conn.add_id("super", "");
                }
                true
            }),
            "ip" => true,
            "x509" => conn.ids.iter().any(|(scheme, _)| scheme == "x509"),
            "verity" => wish_of(conn, auth),
            _ => false,
        };
        let err = if granted { ErrorCode::Ok } else { ErrorCode::AuthFailed };
        conn.figures.sent += 1;
        self.stats.sent += 1;
        self.port.reply(id, xid, 0, err.number(), &[]);
        if !granted {
            self.stats.auth_failed += 1;
            self.close(id);
        }
    }

    pub(super) fn on_sasl(&mut self, now: Now, id: ConnId, xid: i32, body: &[u8]) {
        let op = OpCode::Sasl.number();
        let Ok(request) = SaslToken::from_bytes(body) else {
            return self.done(now, id, xid, op, ErrorCode::MarshallingError, &[]);
        };
        if self.config.sasl_users.is_empty() {
            return self.done(now, id, xid, op, ErrorCode::Ok, &SaslToken { token: None }.to_bytes());
        }
        let conn = self.conns.get_mut(&id).expect("it sent the packet");
        let token = request.token.unwrap_or_default();
        let step = match conn.sasl.take() {
            None => {
                self.nonce_count += 1;
                let nonce = self.secret(2, self.nonce_count);
                let (exchange, challenge) = Exchange::begin(&nonce);
                self.conns.get_mut(&id).expect("it sent the packet").sasl = Some(exchange);
                Step::Challenge(challenge)
            }
            Some(exchange) => exchange.answer(token, &self.config.sasl_users),
        };
        match step {
            Step::Challenge(token) => {
                let body = SaslToken { token: Some(token.as_bytes()) }.to_bytes();
                self.done(now, id, xid, op, ErrorCode::Ok, &body);
            }
            Step::Granted { user, token } => {
                let conn = self.conns.get_mut(&id).expect("it sent the packet");
                conn.add_id("sasl", &user);
                if self.config.super_user.as_ref() == Some(&user) {
                    conn.add_id("super", "");
                }
                let body = SaslToken { token: Some(token.as_bytes()) }.to_bytes();
                self.done(now, id, xid, op, ErrorCode::Ok, &body);
            }
            Step::Refused => {
                self.stats.auth_failed += 1;
                let body = Bytes::from(SaslToken { token: None }.to_bytes());
                self.port.reply(id, xid, 0, ErrorCode::AuthFailed.number(), &body);
                self.close(id);
            }
        }
    }

    pub(super) fn on_who_am_i(&mut self, now: Now, id: ConnId, xid: i32) {
        let conn = &self.conns[&id];
        let ids = conn.ids.iter().map(|(scheme, id)| Id { scheme, id: shown(scheme, id) }).collect();
        let body = WhoAmIResponse { ids }.to_bytes();
        self.done(now, id, xid, OpCode::WhoAmI.number(), ErrorCode::Ok, &body);
    }
}

/// A digest's user without the hash.
fn shown<'a>(scheme: &str, id: &'a str) -> &'a str {
    if scheme == "digest" { id.split(':').next().unwrap_or_default() } else { id }
}

fn wish_of(conn: &mut Conn, wish: &[u8]) -> bool {
    match wish {
        b"reads=linearizable" => conn.linearizable = true,
        b"reads=local" => conn.linearizable = false,
        _ => return false,
    }
    true
}
