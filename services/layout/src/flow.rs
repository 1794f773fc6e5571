//! The cheapest flow through a small network: successive shortest paths (Ahuja, Magnanti, Orlin: Network Flows, 9.7), for the assignment that moves least.
//!
//! Ours, because the crates that have it are bindings to C++ or abandoned, and it is a page.

use std::collections::VecDeque;

struct Edge {
    to: usize,
    room: usize,
    cost: i64,
}

/// A network. Each edge stands beside its reverse: numbers 2i and 2i + 1.
pub(crate) struct Network {
    edges: Vec<Edge>,
    from: Vec<Vec<usize>>,
}

impl Network {
    pub(crate) fn new(vertices: usize) -> Self {
        Self {
            edges: Vec::new(),
            from: (0..vertices).map(|_| Vec::new()).collect(),
        }
    }

    /// Adds an edge; its number for [`Network::is_used`].
    pub(crate) fn edge(&mut self, from: usize, to: usize, room: usize, cost: i64) -> usize {
        let number = self.edges.len();
        self.edges.push(Edge { to, room, cost });
        self.edges.push(Edge {
            to: from,
            room: 0,
            cost: -cost,
        });
        for (vertex, edge) in [(from, number), (to, number + 1)] {
            if let Some(edges) = self.from.get_mut(vertex) {
                edges.push(edge);
            }
        }
        number
    }

    /// Whether anything flows through this edge.
    pub(crate) fn is_used(&self, edge: usize) -> bool {
        self.edges.get(edge + 1).is_some_and(|back| back.room > 0)
    }

    /// Sends as much as fits from `source` to `sink` by the cheapest ways, one unit at a time. How much that is.
    pub(crate) fn fill(&mut self, source: usize, sink: usize) -> usize {
        let mut sent = 0;
        while let Some(path) = self.cheapest_path(source, sink) {
            for edge in path {
                for (number, change) in [(edge, -1), (edge ^ 1, 1)] {
                    if let Some(edge) = self.edges.get_mut(number) {
                        edge.room = edge.room.saturating_add_signed(change);
                    }
                }
            }
            sent += 1;
        }
        sent
    }

    /// By Bellman and Ford with a queue: taking an assignment back has a negative cost, and cheapest flows have no negative circles.
    fn cheapest_path(&self, source: usize, sink: usize) -> Option<Vec<usize>> {
        let mut cost = vec![i64::MAX; self.from.len()];
        let mut came_by = vec![None; self.from.len()];
        let mut queued = vec![false; self.from.len()];
        let mut queue = VecDeque::from([source]);
        *cost.get_mut(source)? = 0;
        while let Some(vertex) = queue.pop_front() {
            *queued.get_mut(vertex)? = false;
            let until_here = *cost.get(vertex)?;
            for number in self.from.get(vertex)? {
                let edge = self.edges.get(*number)?;
                let there = until_here + edge.cost;
                let known = cost.get_mut(edge.to)?;
                if edge.room > 0 && there < *known {
                    *known = there;
                    *came_by.get_mut(edge.to)? = Some(*number);
                    let waits = queued.get_mut(edge.to)?;
                    if !std::mem::replace(waits, true) {
                        queue.push_back(edge.to);
                    }
                }
            }
        }
        let (mut path, mut vertex) = (Vec::new(), sink);
        while vertex != source {
            let number = (*came_by.get(vertex)?)?;
            path.push(number);
            vertex = self.edges.get(number ^ 1)?.to;
        }
        Some(path)
    }
}
