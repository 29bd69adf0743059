//! The zones of one world on an R-tree.

use rstar::{
    AABB, Envelope, ParentNode, RStarInsertionStrategy, RTree, RTreeNode, RTreeObject, RTreeParams, SelectionFunction,
};
use zonecast_protocol::{Circle, Zone};

use super::filters::FilterId;
use crate::SessionId;

/// A zone on the tree: small, because a search reads many more entries than it finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub(super) session: SessionId,
    pub(super) id: u32,
    /// The kinds of event that the zone wants.
    pub(super) filter: FilterId,
    pub(super) zone: Zone,
}

type Bounds = AABB<[f64; 2]>;

impl RTreeObject for Entry {
    type Envelope = Bounds;

    fn envelope(&self) -> Bounds {
        AABB::from_corners(self.zone.min(), self.zone.max())
    }
}

/// Node sizes of the tree, chosen by measurement: see `benches/README.md`.
struct NodeSizes;

impl RTreeParams for NodeSizes {
    const MIN_SIZE: usize = 9;
    const MAX_SIZE: usize = 24;
    const REINSERTION_COUNT: usize = 7;
    type DefaultInsertionStrategy = RStarInsertionStrategy;
}

/// The zones of one world.
///
/// After the last [`insert`](Self::insert) of a change [`settle`](Self::settle) must be called; until then a search
/// does not see what was inserted.
#[derive(Debug)]
pub(super) struct ZoneIndex {
    tree: RTree<Entry, NodeSizes>,
    /// Inserted and not yet on the tree, so that many at once can be loaded in bulk.
    waiting: Vec<Entry>,
}

impl Default for ZoneIndex {
    fn default() -> Self {
        Self { tree: RTree::new_with_params(), waiting: Vec::new() }
    }
}

impl ZoneIndex {
    pub(super) fn len(&self) -> usize {
        self.tree.size() + self.waiting.len()
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.waiting.push(entry);
    }

    /// Removes the entry equal to this.
    pub(super) fn remove(&mut self, entry: &Entry) {
        if !self.remove_from_tree(entry) {
            // Only an entry put and removed within one change is still waiting.
            self.settle();
            let removed = self.remove_from_tree(entry);
            debug_assert!(removed, "{entry:?} was not inserted");
        }
    }

    fn remove_from_tree(&mut self, entry: &Entry) -> bool {
        self.tree.remove_with_selection_function(Equal { entry: *entry, bounds: entry.envelope() }).is_some()
    }

    /// Puts what was inserted onto the tree.
    pub(super) fn settle(&mut self) {
        if self.waiting.len() <= self.tree.size() {
            for entry in self.waiting.drain(..) {
                self.tree.insert(entry);
            }
            return;
        }
        // To rebuild a tree that at least doubles is many times cheaper than to grow it, and makes a better one.
        let mut entries = std::mem::take(&mut self.waiting);
        entries.extend(std::mem::replace(&mut self.tree, RTree::new_with_params()));
        self.tree = RTree::bulk_load_with_params(entries);
    }

    /// Calls `found` with every entry that touches the circle, in no particular order.
    pub(super) fn search(&self, circle: &Circle, mut found: impl FnMut(&Entry)) {
        debug_assert!(self.waiting.is_empty(), "settle() after the last insert()");
        descend(self.tree.root(), &Probe::new(circle), &mut found);
    }
}

/// rstar's own selection by equality computes the bounds anew for each node.
struct Equal {
    entry: Entry,
    bounds: Bounds,
}

impl SelectionFunction<Entry> for Equal {
    fn should_unpack_parent(&self, bounds: &Bounds) -> bool {
        bounds.contains_envelope(&self.bounds)
    }

    fn should_unpack_leaf(&self, leaf: &Entry) -> bool {
        *leaf == self.entry
    }
}

/// A circle, prepared for the tests that go before [`Zone::touches`].
///
/// Neither is ever false for the bounds of a zone that touches, or for bounds around it, rounding included. Bounds are
/// minima and maxima of zone corners, hence exact, so the distances along the axes computed here are roundings of
/// numbers not greater than those that `touches` rounds. Rounding, and multiplying and adding numbers >= 0, keep
/// the order. So each comparison that holds there holds here too.
struct Probe<'a> {
    circle: &'a Circle,
    /// Infinite, so that the box alone decides, where `touches` compares quotients instead of squares.
    radius_squared: f64,
}

impl<'a> Probe<'a> {
    fn new(circle: &'a Circle) -> Self {
        let radius_squared = circle.radius() * circle.radius();
        Self { circle, radius_squared: if radius_squared.is_normal() { radius_squared } else { f64::INFINITY } }
    }

    /// Whether the bounds meet the box around the circle. Without branches.
    #[inline]
    fn is_near(&self, [min_x, min_y]: [f64; 2], [max_x, max_y]: [f64; 2]) -> bool {
        let (x, y, radius) = (self.circle.x(), self.circle.y(), self.circle.radius());
        (greater(min_x - x, x - max_x) <= radius) & (greater(min_y - y, y - max_y) <= radius)
    }

    /// Whether the bounds meet the circle.
    #[inline]
    fn may_touch(&self, [min_x, min_y]: [f64; 2], [max_x, max_y]: [f64; 2]) -> bool {
        let (x, y) = (self.circle.x(), self.circle.y());
        let dx = greater(greater(min_x - x, x - max_x), 0.0);
        let dy = greater(greater(min_y - y, y - max_y), 0.0);
        dx * dx + dy * dy <= self.radius_squared
    }
}

/// One instruction, unlike `f64::max`, which minds NaN.
#[inline]
fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

fn as_leaf(child: &RTreeNode<Entry>) -> Option<&Entry> {
    if let RTreeNode::Leaf(entry) = child { Some(entry) } else { None }
}

fn as_parent(child: &RTreeNode<Entry>) -> Option<&ParentNode<Entry>> {
    if let RTreeNode::Parent(node) = child { Some(node) } else { None }
}

fn descend(node: &ParentNode<Entry>, probe: &Probe<'_>, found: &mut impl FnMut(&Entry)) {
    // The children of a node are all leaves or all parents.
    if matches!(node.children().first(), Some(RTreeNode::Leaf(_))) {
        let is_near = |entry: &Entry| probe.is_near(entry.zone.min(), entry.zone.max());
        for_each_passing(node.children(), as_leaf, is_near, |entry| {
            if entry.zone.touches(probe.circle) {
                found(entry);
            }
        });
    } else {
        let is_near = |node: &ParentNode<Entry>| probe.is_near(node.envelope().lower(), node.envelope().upper());
        for_each_passing(node.children(), as_parent, is_near, |node| {
            if probe.may_touch(node.envelope().lower(), node.envelope().upper()) {
                descend(node, probe, found);
            }
        });
    }
}

/// Visits the children that pass.
///
/// Two steps, the first without branches: whether a child is near is hard to foretell, and a branch foretold wrongly
/// costs more than to look at several children.
#[inline]
fn for_each_passing<'t, T: 't>(
    children: &'t [RTreeNode<Entry>],
    sort: impl Fn(&'t RTreeNode<Entry>) -> Option<&'t T>,
    passes: impl Fn(&T) -> bool,
    mut visit: impl FnMut(&'t T),
) {
    for children in children.chunks(u32::BITS as usize) {
        let mut passing = 0_u32;
        for (place, child) in children.iter().enumerate() {
            passing |= u32::from(sort(child).is_some_and(&passes)) << place;
        }
        while passing != 0 {
            let place = passing.trailing_zeros() as usize;
            passing &= passing - 1;
            if let Some(child) = sort(&children[place]) {
                visit(child);
            }
        }
    }
}
