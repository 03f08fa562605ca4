//! View-change storm: asks for view after view, whatever the others do.

use super::Desk;

/// Asks all others for one of the next views.
pub(super) fn on_tick(desk: &mut Desk) {
    if !desk.chance.hits(30) {
        return;
    }
    let view = desk.view + 1 + desk.chance.below(5);
    let change = desk.bare_change(view);
    desk.others().into_iter().for_each(|to| desk.say(to, &change));
}
