//! Lying clock: stamps what it assigns with a time that is far off, or just within what others take.

use verity_types::WallMs;

use super::Desk;

/// What it says the time is.
pub(super) fn wall(desk: &mut Desk, wall: WallMs) -> WallMs {
    let off = [60_000, 5_000, 1_900, 0][usize::try_from(desk.chance.below(4)).expect("a small number")];
    WallMs(if desk.chance.hits(50) { wall.0 + off } else { wall.0.saturating_sub(off) })
}
