//! Which wallets there are, and which of them are loaded at the start.
//!
//! - `wallets/names`: a name a line (a line's end in it as `\n`, a `\` as `\\`), since a disk lists files and no folders. Whoever brings a wallet by hand loads it by its
//!   name, and it is listed from then on;
//! - `settings.json`: its field `wallet` has those that clients asked to load at each start. Its other fields stay.

use std::collections::BTreeSet;

use verity_storage::Disk;

use super::file::{self, FileError};
use crate::session::rpc::Json;

const NAMES: &str = "wallets/names";
const FOLDER: &str = "wallets";
const SETTINGS: &str = "settings.json";
const FIELD: &str = "wallet";

/// Names that were written down.
pub(super) fn all(disk: &dyn Disk) -> Result<BTreeSet<String>, FileError> {
    if !disk.exists(NAMES)? {
        return Ok(BTreeSet::new());
    }
    let bytes = file::read(disk, NAMES)?;
    Ok(String::from_utf8_lossy(&bytes).split_terminator('\n').map(of_line).collect())
}

/// A name as one line.
fn line_of(name: &str) -> String {
    name.replace('\\', "\\\\").replace('\n', "\\n")
}

/// The name that a line has.
fn of_line(line: &str) -> String {
    let (mut name, mut chars) = (String::new(), line.chars());
    while let Some(char) = chars.next() {
        name.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            plain => plain,
        });
    }
    name
}

/// One more name.
pub(super) fn add(disk: &dyn Disk, name: &str) -> Result<(), FileError> {
    let mut names = all(disk)?;
    if names.insert(name.to_owned()) {
        disk.create_dir(FOLDER)?;
        let text: String = names.iter().map(|name| line_of(name) + "\n").collect();
        file::write(disk, FOLDER, NAMES, text.as_bytes())?;
    }
    Ok(())
}

fn settings(disk: &dyn Disk) -> Result<Json, FileError> {
    if !disk.exists(SETTINGS)? {
        return Ok(Json::obj());
    }
    let json = Json::read(&file::read(disk, SETTINGS)?).filter(|json| matches!(json, Json::Obj(_)));
    json.ok_or_else(|| FileError::Disk(format!("{SETTINGS} is no JSON object: mend it, or remove it")))
}

fn names_of(settings: &Json) -> Vec<String> {
    let names = settings.get(FIELD).items().unwrap_or_default();
    names.iter().filter_map(|name| name.text().ok()).map(str::to_owned).collect()
}

/// Those that clients asked for.
pub(super) fn at_start(disk: &dyn Disk) -> Result<Vec<String>, FileError> {
    Ok(names_of(&settings(disk)?))
}

/// Loads a wallet at each start, or not any more.
pub(super) fn set_at_start(disk: &dyn Disk, name: &str, load: bool) -> Result<(), FileError> {
    let settings = settings(disk)?;
    let mut names = names_of(&settings);
    let there = names.iter().any(|own| own == name);
    if there == load {
        return Ok(());
    }
    names.retain(|own| own != name);
    if load {
        names.push(name.to_owned());
    }
    let fields = settings.fields().unwrap_or_default().iter().filter(|(field, _)| field != FIELD);
    let mut changed = Json::Obj(fields.cloned().collect());
    changed.put(FIELD, Json::arr(names));
    file::write(disk, "", SETTINGS, changed.pretty(4).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{line_of, of_line};

    #[test]
    fn any_name_is_a_line() {
        for name in ["", "plain", "a\nb\\nc\\", "\\\\n", "\t'\""] {
            assert!(!line_of(name).contains('\n'));
            assert_eq!(of_line(&line_of(name)), name);
        }
    }
}
