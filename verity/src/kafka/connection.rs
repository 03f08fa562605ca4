//! One connection to a broker.
//!
//! - upon [`Connection::open`]: TLS if it is asked for, then ApiVersions, then SASL if there is a user;
//! - upon a version of ApiVersions that the broker does not know: it says which it does, and is asked in that;
//! - upon [`Connection::call`]: a request and its answer; one at a time.
//!
//! A broker that answers later than [`ANSWER_WAIT`] has none, beside the time that a request asks it to wait.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use verity_kafka::client::{Exchange, Versions};
use verity_kafka::wire::message::{ApiVersionsRequest, SaslAuthenticateRequest, SaslHandshakeRequest};
use verity_kafka::wire::{
    ApiKey, Ask, ErrorCode, FrameError, Frames, Request, Response, decode_response, encode_request,
};

use super::access::{Access, Identity};
use super::failure::{Failure, clear};
use crate::secrets;

/// How long a broker may take to let a client in.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
/// What the client calls itself.
const CLIENT_ID: &str = "verity";
/// The version of ApiVersions that is tried first.
const API_VERSIONS: i16 = 3;
/// The beginning of a TLS record, taken for a length: an alert of TLS 1.x, or a handshake.
const TLS_LOOKS_LIKE: [usize; 2] = [0x1503_0300, 0x1603_0300];

trait Wire: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Wire for T {}

/// A connection that is ready.
pub(super) struct Connection {
    wire: Pin<Box<dyn Wire>>,
    frames: Frames,
    versions: Versions,
    correlation: i32,
    address: String,
}

impl Connection {
    /// Connects and says who asks.
    pub(super) async fn open(address: &str, access: &Access) -> Result<Self, Failure> {
        let open = Self::open_patiently(address, access);
        let late = || Failure::Passing(format!("{address} does not answer; is it a Kafka broker?"));
        timeout(CONNECT_WAIT, open).await.map_err(|_| late())?
    }

    async fn open_patiently(address: &str, access: &Access) -> Result<Self, Failure> {
        let cannot = |error: &std::io::Error| Failure::Passing(format!("no broker at {address}: {}", clear(error)));
        let tcp = TcpStream::connect(address).await.map_err(|error| cannot(&error))?;
        // Without it a small request waits for the answer to the one before.
        let _ = tcp.set_nodelay(true);
        let wire: Pin<Box<dyn Wire>> = match &access.tls {
            None => Box::pin(tcp),
            Some(tls) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
                let name = tls.name(host).ok_or_else(|| Failure::Lasting(format!("{host:?} is no name for TLS")))?;
                let stream = tls.connector.connect(name, tcp).await;
                Box::pin(stream.map_err(|error| Failure::Lasting(format!("{address}: TLS failed: {error}")))?)
            }
        };
        let mut connection = Self {
            wire,
            frames: Frames::default(),
            versions: Versions::default(),
            correlation: 0,
            address: address.to_owned(),
        };
        connection.learn_versions().await?;
        if let Some(identity) = &access.identity {
            connection.authenticate(identity).await?;
        }
        Ok(connection)
    }

    /// Asks a request in the version that both speak. `wait` is what it asks the broker to wait.
    pub(super) async fn call<A: Ask>(&mut self, request: A, wait: Duration) -> Result<A::Answer, Failure> {
        let version = self.version(A::KEY)?;
        match timeout(ANSWER_WAIT + wait, self.exchange(version, request.into())).await {
            Ok(response) => Ok(A::answer(response?).expect("the answer was decoded as one to this request")),
            Err(_) => Err(Failure::Passing(format!("{} does not answer {}", self.address, A::KEY))),
        }
    }

    /// Sends a request that has no answer.
    pub(super) async fn tell<A: Ask>(&mut self, request: A) -> Result<(), Failure> {
        let version = self.version(A::KEY)?;
        self.send(version, &request.into()).await.map(|_| ())
    }

    fn version(&self, key: ApiKey) -> Result<i16, Failure> {
        self.versions.pick(key).map_err(|error| Failure::Lasting(format!("{}: {error}", self.address)))
    }

    async fn send(&mut self, version: i16, request: &Request) -> Result<i32, Failure> {
        self.correlation = self.correlation.wrapping_add(1);
        let bytes = encode_request(version, self.correlation, Some(CLIENT_ID), request);
        let sent = async {
            self.wire.write_all(&bytes).await?;
            self.wire.flush().await
        };
        sent.await.map_err(|error| self.lost(&error))?;
        Ok(self.correlation)
    }

    async fn exchange(&mut self, version: i16, request: Request) -> Result<Response, Failure> {
        let correlation = self.send(version, &request).await?;
        let frame = self.receive().await?;
        self.decode(request.key(), version, correlation, frame)
    }

    fn decode(&self, key: ApiKey, version: i16, correlation: i32, frame: Bytes) -> Result<Response, Failure> {
        let strange = |what: String| {
            Failure::Lasting(format!("{}: an answer to {key} {version} that is not Kafka's: {what}", self.address))
        };
        let (to, response) = decode_response(key, version, frame).map_err(|error| strange(error.to_string()))?;
        if to == correlation { Ok(response) } else { Err(strange(format!("it is to request {to}"))) }
    }

    async fn receive(&mut self) -> Result<Bytes, Failure> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(self.not_kafka(error)),
            }
            let mut chunk = BytesMut::with_capacity(1 << 16);
            match self.wire.read_buf(&mut chunk).await {
                Ok(0) => return Err(self.lost(&std::io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => self.frames.push(chunk.freeze()).map_err(|error| self.not_kafka(error))?,
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    fn lost(&self, error: &std::io::Error) -> Failure {
        Failure::Passing(format!("{}: {}", self.address, clear(error)))
    }

    fn not_kafka(&self, error: FrameError) -> Failure {
        let address = &self.address;
        match error {
            FrameError::TooLarge { size, .. } if TLS_LOOKS_LIKE.contains(&(size & 0xffff_ff00)) => {
                Failure::Lasting(format!("{address} speaks TLS; name its authority's certificate with --tls-ca"))
            }
            _ => Failure::Lasting(format!("{address} does not speak Kafka's protocol")),
        }
    }

    async fn learn_versions(&mut self) -> Result<(), Failure> {
        let mut version = API_VERSIONS;
        loop {
            let request = ApiVersionsRequest {
                client_software_name: "verity".to_owned(),
                client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            let correlation = self.send(version, &request.into()).await?;
            let frame = self.receive().await.map_err(|failure| match failure {
                Failure::Passing(why) => Failure::Passing(format!("{why}; is it a Kafka broker without TLS?")),
                other => other,
            })?;
            // A broker that does not know the version answers in version 0, with its error in front. Behind it stands what
            // it does know; not every broker writes that well, and all know version 0.
            if version > 0 && frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes()[..]) {
                let told = self.decode(ApiKey::ApiVersions, 0, correlation, frame).ok();
                let told = told.and_then(ApiVersionsRequest::answer).map(|answer| Versions::new(&answer));
                let known = told.and_then(|versions| versions.pick(ApiKey::ApiVersions).ok());
                version = known.filter(|known| *known < version).unwrap_or(0);
                continue;
            }
            let response = self.decode(ApiKey::ApiVersions, version, correlation, frame)?;
            let answer = ApiVersionsRequest::answer(response).expect("it was decoded as one");
            self.versions = Versions::new(&answer);
            return Failure::check(answer.error_code, &self.address);
        }
    }

    async fn authenticate(&mut self, identity: &Identity) -> Result<(), Failure> {
        let name = identity.mechanism.name();
        let refusal = |why: String| {
            Failure::Lasting(format!("authentication failed for user {} by {name}: {why}", identity.user))
        };
        let handshake = SaslHandshakeRequest { mechanism: name.to_owned() };
        let version = self.versions.pick(ApiKey::SaslHandshake).unwrap_or(1);
        let answer = self.exchange(version, handshake.into()).await;
        let answer = SaslHandshakeRequest::answer(answer.map_err(|failure| refusal(failure.to_string()))?)
            .expect("it was decoded as one");
        if answer.error_code != 0 {
            let known = answer.mechanisms.join(", ");
            return Err(refusal(match known.is_empty() {
                true => "the listener does not authenticate by SASL".to_owned(),
                false => format!("the broker knows {known}"),
            }));
        }
        let nonce = secrets::nonce().map_err(|error| Failure::Lasting(error.to_string()))?;
        let (mut exchange, mut said) = Exchange::begin(identity.mechanism, &identity.user, &identity.password, &nonce);
        loop {
            let version = self.versions.pick(ApiKey::SaslAuthenticate).unwrap_or(0);
            let request = SaslAuthenticateRequest { auth_bytes: said };
            let answer = self.exchange(version, request.into()).await;
            let answer = SaslAuthenticateRequest::answer(answer.map_err(|failure| refusal(failure.to_string()))?)
                .expect("it was decoded as one");
            if answer.error_code != 0 {
                let why = answer.error_message.filter(|why| !why.is_empty());
                return Err(refusal(why.unwrap_or_else(|| "wrong user or password".to_owned())));
            }
            match exchange.on_answer(&answer.auth_bytes).map_err(|error| refusal(error.to_string()))? {
                Some(next) => said = next,
                None => return Ok(()),
            }
        }
    }
}
