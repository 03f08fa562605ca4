//! What an application says, in the shapes of ABCI 2.0 and of its JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::json::{B64, Int, Uint};
use super::merkle::{self, Hash};
use super::proto::{ProtoError, Reader, Writer};

/// Text that is often the same.
pub type Text = Cow<'static, str>;

/// One fact about an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its name.
    pub key: Text,
    /// Its value.
    pub value: Text,
    /// It can be searched for.
    pub index: bool,
}

/// Something that happened while a transaction or block ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AbciEvent {
    /// What happened.
    pub r#type: Text,
    /// Facts about it.
    pub attributes: Vec<Attribute>,
}

impl AbciEvent {
    fn write(&self, out: &mut Writer) {
        out.bytes(1, self.r#type.as_bytes());
        for attribute in &self.attributes {
            out.message(2, |out| {
                out.bytes(1, attribute.key.as_bytes())
                    .bytes(2, attribute.value.as_bytes())
                    .uint(3, attribute.index.into());
            });
        }
    }

    pub(super) fn read(reader: Reader) -> Result<Self, ProtoError> {
        let mut event = Self { r#type: Text::default(), attributes: Vec::new() };
        reader.fields(|field| {
            match field.number {
                1 => event.r#type = field.text()?.into(),
                2 => {
                    let mut attribute = Attribute { key: Text::default(), value: Text::default(), index: false };
                    field.message()?.fields(|field| {
                        match field.number {
                            1 => attribute.key = field.text()?.into(),
                            2 => attribute.value = field.text()?.into(),
                            3 => attribute.index = field.uint()? != 0,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    event.attributes.push(attribute);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(event)
    }
}

/// What a transaction came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecTxResult {
    /// 0 if it is well.
    pub code: u32,
    /// The application's own.
    pub data: Bytes,
    /// For people.
    pub log: String,
    /// For people.
    pub info: String,
    /// What it was ready to pay.
    pub gas_wanted: i64,
    /// What it paid.
    pub gas_used: i64,
    /// What happened.
    pub events: Vec<AbciEvent>,
    /// Whose codes these are.
    pub codespace: String,
}

impl ExecTxResult {
    fn write_hashed(&self, out: &mut Writer) {
        out.uint(1, self.code.into()).bytes(2, &self.data);
        out.int(5, self.gas_wanted).int(6, self.gas_used);
    }

    /// `tendermint.abci.ExecTxResult`.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.uint(1, self.code.into())
            .bytes(2, &self.data)
            .bytes(3, self.log.as_bytes())
            .bytes(4, self.info.as_bytes())
            .int(5, self.gas_wanted)
            .int(6, self.gas_used);
        self.events.iter().for_each(|event| {
            out.message(7, |out| event.write(out));
        });
        out.bytes(8, self.codespace.as_bytes());
        out.out.into()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn decode(bytes: Bytes) -> Result<Self, ProtoError> {
        let mut result = Self::default();
        Reader::new(bytes).fields(|field| {
            match field.number {
                1 => result.code = field.small()?,
                2 => result.data = field.bytes()?,
                3 => result.log = field.text()?,
                4 => result.info = field.text()?,
                5 => result.gas_wanted = field.int()?,
                6 => result.gas_used = field.int()?,
                7 => result.events.push(AbciEvent::read(field.message()?)?),
                8 => result.codespace = field.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(result)
    }

    /// The root over the deterministic part of results: what the next header says of them.
    #[must_use]
    pub fn hash_of(results: &[ExecTxResult]) -> Hash {
        let leaf = |result: &ExecTxResult| {
            let mut out = Writer::new();
            result.write_hashed(&mut out);
            out.out
        };
        merkle::root(&results.iter().map(leaf).collect::<Vec<_>>())
    }

    /// As an event's data shows it: without what is zero.
    pub(crate) fn sparse(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Sparse<'a> {
            #[serde(skip_serializing_if = "is_zero")]
            code: u32,
            #[serde(skip_serializing_if = "B64::is_empty")]
            data: B64,
            #[serde(skip_serializing_if = "str::is_empty")]
            log: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            info: &'a str,
            #[serde(skip_serializing_if = "Int::is_zero")]
            gas_wanted: Int,
            #[serde(skip_serializing_if = "Int::is_zero")]
            gas_used: Int,
            #[serde(skip_serializing_if = "<[AbciEvent]>::is_empty")]
            events: &'a [AbciEvent],
            #[serde(skip_serializing_if = "str::is_empty")]
            codespace: &'a str,
        }
        Sparse {
            code: self.code,
            data: B64(self.data.clone()),
            log: &self.log,
            info: &self.info,
            gas_wanted: Int(self.gas_wanted),
            gas_used: Int(self.gas_used),
            events: &self.events,
            codespace: &self.codespace,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Serialize for ExecTxResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ExecTxResult", 8)?;
        out.serialize_field("code", &self.code)?;
        out.serialize_field("data", &B64(self.data.clone()))?;
        out.serialize_field("log", &self.log)?;
        out.serialize_field("info", &self.info)?;
        out.serialize_field("gas_wanted", &Int(self.gas_wanted))?;
        out.serialize_field("gas_used", &Int(self.gas_used))?;
        out.serialize_field("events", &self.events)?;
        out.serialize_field("codespace", &self.codespace)?;
        out.end()
    }
}

/// Whether a transaction may be ordered. Its shape is that of a result.
pub type CheckTx = ExecTxResult;

/// What an application is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Info {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// Of its software.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Of its protocol; headers carry it.
    #[serde(skip_serializing_if = "Uint::is_zero")]
    pub app_version: Uint,
    /// What it ran last.
    #[serde(skip_serializing_if = "Int::is_zero")]
    pub last_block_height: Int,
    /// Of its state then.
    #[serde(skip_serializing_if = "B64::is_empty")]
    pub last_block_app_hash: B64,
}

/// One step of a proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProofOp {
    /// How it is verified.
    pub r#type: String,
    /// Of this key.
    pub key: B64,
    /// The verifier's own.
    pub data: B64,
}

/// What a query answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryResponse {
    /// 0 if it is well.
    pub code: u32,
    /// For people.
    pub log: String,
    /// For people.
    pub info: String,
    /// The key's place in the tree.
    pub index: i64,
    /// What was asked for.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// That it has this value, from the leaf to the root.
    pub proof: Vec<ProofOp>,
    /// Of the state that was asked.
    pub height: i64,
    /// Whose codes these are.
    pub codespace: String,
}

impl Serialize for QueryResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let proof = (!self.proof.is_empty()).then(|| BTreeMap::from([("ops", &self.proof)]));
        let mut out = serializer.serialize_struct("ResponseQuery", 9)?;
        out.serialize_field("code", &self.code)?;
        out.serialize_field("log", &self.log)?;
        out.serialize_field("info", &self.info)?;
        out.serialize_field("index", &Int(self.index))?;
        out.serialize_field("key", &B64(self.key.clone()))?;
        out.serialize_field("value", &B64(self.value.clone()))?;
        out.serialize_field("proofOps", &proof)?;
        out.serialize_field("height", &Int(self.height))?;
        out.serialize_field("codespace", &self.codespace)?;
        out.end()
    }
}
