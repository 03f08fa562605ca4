//! Clients that show who they are, and some that do not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use verity_types::{ConnId, Nanos};

use super::rig::{PLAIN, Rig, SASL};
use crate::session::scram::Hash;
use crate::wire::message::{
    AlterUserScramCredentialsRequest, MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest, ScramCredentialUpsertion,
};
use crate::wire::{ErrorCode, Request, Response};

fn handshake(rig: &mut Rig, conn: ConnId, mechanism: &str) -> ErrorCode {
    let request = SaslHandshakeRequest { mechanism: mechanism.into() };
    let response = ask!(rig, conn, 1, SaslHandshake, request);
    assert_eq!(response.mechanisms, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    ErrorCode(response.error_code)
}

/// One token; a failure keeps the client waiting.
fn token(rig: &mut Rig, conn: ConnId, text: &str) -> SaslAuthenticateResponse {
    let auth_bytes = Bytes::copy_from_slice(text.as_bytes());
    rig.send(conn, 2, &Request::SaslAuthenticate(SaslAuthenticateRequest { auth_bytes }));
    let answer = rig.receive(conn);
    let answer = answer.or_else(|| {
        rig.advance(101);
        rig.receive(conn)
    });
    let Some(Response::SaslAuthenticate(response)) = answer else { panic!("{answer:?}") };
    response
}

pub(super) fn log_in_plain(rig: &mut Rig, conn: ConnId, user: &str, password: &str) {
    assert_eq!(handshake(rig, conn, "PLAIN"), ErrorCode::NONE);
    let response = token(rig, conn, &format!("\0{user}\0{password}"));
    assert_eq!((response.error_code, response.auth_bytes.len(), response.session_lifetime_ms), (0, 0, 0));
}

fn is_served(rig: &mut Rig, conn: ConnId) -> bool {
    rig.send(conn, 12, &Request::Metadata(MetadataRequest::default()));
    rig.receive(conn).is_some()
}

#[test]
fn nobody_is_served_before_they_say_who_they_are() {
    let mut rig = Rig::new();
    let conn = rig.connect(SASL);
    assert!(!is_served(&mut rig, conn));
    assert!(rig.is_closed(conn));
    let conn = rig.connect(SASL);
    log_in_plain(&mut rig, conn, "alice", "secret");
    assert!(is_served(&mut rig, conn));
}

#[test]
fn a_wrong_password_ends_the_connection() {
    let mut rig = Rig::new();
    for (text, message) in [
        ("\0alice\0wrong", "Authentication failed: Invalid username or password"),
        ("\0eve\0secret", "Authentication failed: Invalid username or password"),
        ("\0eve\0", "Authentication failed: password not specified"),
        ("\0\0secret", "Authentication failed: username not specified"),
        ("alice", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
        (
            "bob\0alice\0secret",
            "Authentication failed: Client requested an authorization id that is different from username",
        ),
    ] {
        let conn = rig.connect(SASL);
        assert_eq!(handshake(&mut rig, conn, "PLAIN"), ErrorCode::NONE);
        let response = token(&mut rig, conn, text);
        assert_eq!(response.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED.0);
        assert_eq!(response.error_message.as_deref(), Some(message));
        assert!(rig.is_closed(conn), "{text:?}");
    }
}

#[test]
fn steps_come_in_their_order() {
    let mut rig = Rig::new();
    let conn = rig.connect(SASL);
    assert_eq!(handshake(&mut rig, conn, "GSSAPI"), ErrorCode::UNSUPPORTED_SASL_MECHANISM);
    assert!(rig.is_closed(conn));
    let conn = rig.connect(SASL);
    assert_eq!(token(&mut rig, conn, "\0alice\0secret").error_code, ErrorCode::ILLEGAL_SASL_STATE.0);
    assert!(rig.is_closed(conn));
    let conn = rig.connect(SASL);
    assert_eq!(handshake(&mut rig, conn, "PLAIN"), ErrorCode::NONE);
    assert_eq!(handshake(&mut rig, conn, "PLAIN"), ErrorCode::ILLEGAL_SASL_STATE);
    assert!(rig.is_closed(conn));
}

#[test]
fn tokens_without_a_header_end_the_connection() {
    let mut rig = Rig::new();
    let conn = rig.connect(SASL);
    let request = SaslHandshakeRequest { mechanism: "PLAIN".into() };
    assert_eq!(ask!(rig, conn, 0, SaslHandshake, request).error_code, 0);
    rig.send_bytes(conn, Bytes::from_static(b"\0\0\0\x0d\0alice\0secret"));
    assert!(rig.is_closed(conn));
}

#[test]
fn who_shows_who_they_are_again_is_the_same() {
    let mut config = super::rig::config();
    config.plain_users.insert("bob".into(), "builder".into());
    let mut rig = Rig::with(config);
    // The listener does not ask for it, and takes it all the same.
    for door in [PLAIN, SASL] {
        let conn = rig.connect(door);
        log_in_plain(&mut rig, conn, "alice", "secret");
        log_in_plain(&mut rig, conn, "alice", "secret");
        assert!(is_served(&mut rig, conn));
        assert_eq!(handshake(&mut rig, conn, "PLAIN"), ErrorCode::NONE);
        let response = token(&mut rig, conn, "\0bob\0builder");
        assert_eq!(response.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED.0);
        assert!(response.error_message.unwrap().starts_with("Cannot change principals during re-authentication"));
        assert!(rig.is_closed(conn));
    }
}

/// `Hi` of RFC 5802 §2.2.
fn salted(hash: Hash, password: &str, salt: &[u8], iterations: usize) -> Vec<u8> {
    let mut round = hash.hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
    let mut sum = round.clone();
    for _ in 1..iterations {
        round = hash.hmac(password.as_bytes(), &round);
        sum.iter_mut().zip(&round).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

fn set_password(rig: &mut Rig, hash: Hash, user: &str, password: &str) {
    let salt = b"some salt";
    let upsertion = ScramCredentialUpsertion {
        name: user.into(),
        mechanism: hash.number(),
        iterations: 4_096,
        salt: Bytes::from_static(salt),
        salted_password: salted(hash, password, salt, 4_096).into(),
    };
    let conn = rig.connect(PLAIN);
    let request = AlterUserScramCredentialsRequest { deletions: Vec::new(), upsertions: vec![upsertion] };
    assert_eq!(ask!(rig, conn, 0, AlterUserScramCredentials, request).results[0].error_code, 0);
}

/// A client's side. The server's last word is checked.
fn log_in_scram(rig: &mut Rig, conn: ConnId, hash: Hash, user: &str, password: &str) -> ErrorCode {
    let bare = format!("n={user},r=clientnonce");
    let first = token(rig, conn, &format!("n,,{bare}"));
    assert_eq!(first.error_code, 0, "nobody is refused before the proof");
    let server_first = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
    let parts: Vec<&str> = server_first.splitn(3, ',').map(|part| &part[2..]).collect();
    let (nonce, salt) = (parts[0], STANDARD.decode(parts[1]).unwrap());
    assert!(nonce.starts_with("clientnonce") && nonce.len() > 30);
    let salted = salted(hash, password, &salt, parts[2].parse().unwrap());
    let without_proof = format!("c=biws,r={nonce}");
    let auth_message = format!("{bare},{server_first},{without_proof}");
    let client_key = hash.hmac(&salted, b"Client Key");
    let signature = hash.hmac(&hash.hash(&client_key), auth_message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let last = token(rig, conn, &format!("{without_proof},p={}", STANDARD.encode(proof)));
    if last.error_code == 0 {
        let expected = hash.hmac(&hash.hmac(&salted, b"Server Key"), auth_message.as_bytes());
        assert_eq!(last.auth_bytes, format!("v={}", STANDARD.encode(expected)).as_bytes());
    } else {
        let message = last.error_message.unwrap();
        let expected =
            "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM";
        assert!(message.starts_with(expected), "{message}");
    }
    ErrorCode(last.error_code)
}

#[test]
fn a_password_is_shown_without_being_said() {
    let mut rig = Rig::new();
    for (hash, mechanism) in [(Hash::Sha256, "SCRAM-SHA-256"), (Hash::Sha512, "SCRAM-SHA-512")] {
        set_password(&mut rig, hash, "bob", "builder");
        for (user, password, expected) in [
            ("bob", "builder", ErrorCode::NONE),
            ("bob", "wrong", ErrorCode::SASL_AUTHENTICATION_FAILED),
            ("eve", "builder", ErrorCode::SASL_AUTHENTICATION_FAILED),
        ] {
            let conn = rig.connect(SASL);
            assert_eq!(handshake(&mut rig, conn, mechanism), ErrorCode::NONE);
            assert_eq!(log_in_scram(&mut rig, conn, hash, user, password), expected, "{user} {password}");
            let served = expected == ErrorCode::NONE;
            assert_eq!(rig.is_closed(conn), !served);
            assert!(!served || is_served(&mut rig, conn));
        }
    }
}

#[test]
fn a_user_who_is_not_there_has_the_same_salt_each_time() {
    let mut rig = Rig::new();
    let mut salt = |user: &str| {
        let conn = rig.connect(SASL);
        assert_eq!(handshake(&mut rig, conn, "SCRAM-SHA-256"), ErrorCode::NONE);
        let first = token(&mut rig, conn, &format!("n,,n={user},r=x")).auth_bytes;
        String::from_utf8(first.to_vec()).unwrap().split(',').nth(1).unwrap().to_owned()
    };
    assert_eq!(salt("eve"), salt("eve"));
    assert_ne!(salt("eve"), salt("mallory"));
}

#[test]
fn what_was_shown_holds_for_a_while() {
    let mut config = super::rig::config();
    config.max_reauth = Some(Nanos::from_millis(1_000));
    let mut rig = Rig::with(config);
    let conn = rig.connect(SASL);
    let log_in = |rig: &mut Rig| {
        assert_eq!(handshake(rig, conn, "PLAIN"), ErrorCode::NONE);
        assert_eq!(token(rig, conn, "\0alice\0secret").session_lifetime_ms, 1_000);
    };
    log_in(&mut rig);
    rig.advance(900);
    log_in(&mut rig);
    rig.advance(900);
    assert!(is_served(&mut rig, conn), "it was shown again");
    rig.advance(900);
    log_in(&mut rig);
    assert!(is_served(&mut rig, conn), "who is late may still show it, and nothing else");
    rig.advance(1_001);
    assert!(!is_served(&mut rig, conn));
    assert!(rig.is_closed(conn));
}

#[test]
fn the_mechanism_stays_the_same() {
    let mut rig = Rig::new();
    let conn = rig.connect(SASL);
    log_in_plain(&mut rig, conn, "alice", "secret");
    assert_eq!(handshake(&mut rig, conn, "SCRAM-SHA-256"), ErrorCode::NONE);
    let response = token(&mut rig, conn, "n,,n=alice,r=abc");
    assert_eq!(response.error_code, ErrorCode::SASL_AUTHENTICATION_FAILED.0);
    let message = "SASL mechanism 'SCRAM-SHA-256' requested by client is not supported for re-authentication of mechanism 'PLAIN'";
    assert_eq!(response.error_message.as_deref(), Some(message));
    assert!(rig.is_closed(conn));
}
