//! The threads: one that accepts, deals out and answers for all to the supervisor, and one per core
//! that serves.
//!
//! Dealing out, instead of letting every thread accept, wakes one thread per connection instead of
//! all, and keeps the threads evenly loaded. All threads and everything that they map are made
//! before the start is over: making a thread is not among the calls of a front end that serves.

use crate::Error;
use crate::body::file_range::Placeholders;
use crate::connections::Connections;
use crate::limits::{
    BUDGET_KIB, FILES_PER_CONNECTION, FINISH, HANDED_OVER_MAX, REMEMBERED_KIB, Room, TICK_S_MAX,
    TRIM_RESTED, TRIM_S, WORKERS_MAX,
};
use crate::relay;
use crate::server::{self, Handler};
use crate::worker::{Memory, Settings, Worker};
use protocol::Channel;
use runtime::{Bus, Supervisor, event_loop};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// A serving thread, as the first thread sees it.
struct Hand {
    sockets: mpsc::Sender<server::Dealt>,
    vitals: Arc<Vitals>,
}

/// What a serving thread lets the first one know.
#[derive(Default)]
struct Vitals {
    /// When its event loop last turned, in seconds since the crew's start.
    tick_s: AtomicU64,
    /// Connections that it has, or will take over.
    load: Arc<AtomicUsize>,
}

/// All threads.
pub struct Crew {
    started: Instant,
    /// What all threads together have.
    room: Room,
    runtime: Runtime,
    hands: Vec<Hand>,
    /// The first thread's ends of the channels on which the others speak to the bus.
    buses: Vec<Channel>,
    /// Ends when the last thread has ended.
    ended: mpsc::Receiver<()>,
}

fn system(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::System(what, error)
}

/// One per core that this process may use.
fn count_of_threads() -> usize {
    let cores = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    usize::try_from(cores).unwrap_or(1).clamp(1, WORKERS_MAX)
}

/// How many connections this process can keep with the descriptors that it may really have.
fn room() -> Room {
    let files = getrlimit(Resource::Nofile).current;
    let room = files.map_or(Room::FULL, Room::within);
    if room != Room::FULL {
        let (files, Room { connections, .. }) = (files.unwrap_or(0), room);
        let of = Room::FULL.connections;
        runtime::warn!(
            "keeps {connections} connections instead of {of}: only {files} open files are allowed"
        );
    }
    room
}

impl Crew {
    /// Starts the serving threads and waits until each is ready to take over connections.
    pub fn start<H: Handler>(settings: &Settings, handler: H) -> Result<Self, Error> {
        let started = Instant::now();
        let count = count_of_threads();
        let (end, ended) = mpsc::channel(1);
        let newest_revision = Arc::new(AtomicU64::new(0));
        let room = room();
        let mut crew = Self {
            started,
            room,
            runtime: event_loop().map_err(system("event loop"))?,
            hands: Vec::new(),
            buses: Vec::new(),
            ended,
        };
        for number in 0..count {
            let (ours, theirs) =
                Channel::pair().map_err(|errno| Error::System("socket pair", errno.into()))?;
            let (sockets, accepted) = mpsc::channel(HANDED_OVER_MAX);
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|error| {
                Error::System("random seed", io::Error::other(error.to_string()))
            })?;
            let vitals = Arc::new(Vitals::default());
            let thread = Thread {
                settings: settings.clone(),
                newest_revision: newest_revision.clone(),
                bus: theirs,
                accepted,
                vitals: vitals.clone(),
                started,
                room: room.share(count),
                memory: Memory {
                    budget_kib: BUDGET_KIB / u32::try_from(count).unwrap_or(u32::MAX),
                    remembered_kib: REMEMBERED_KIB / count,
                },
                seed: u64::from_ne_bytes(seed),
                _end: end.clone(),
            };
            let (up, is_up) = std_mpsc::channel();
            std::thread::Builder::new()
                .name(format!("serve-{number}"))
                .spawn(move || thread.run(&up, handler))
                .map_err(system("thread"))?;
            // A thread that dies before it says anything drops its end.
            is_up
                .recv()
                .map_err(|_| Error::System("thread", io::ErrorKind::Other.into()))?
                .map_err(system("thread"))?;
            crew.hands.push(Hand { sockets, vitals });
            crew.buses.push(ours);
        }
        Ok(crew)
    }

    /// Says ready, and deals out connections until the supervisor says stop; then requests under
    /// way are finished.
    pub fn serve(
        self,
        listener: StdTcpListener,
        bus: Channel,
        supervisor: &Supervisor,
    ) -> Result<(), Error> {
        let Self {
            started,
            room,
            runtime,
            hands,
            buses,
            mut ended,
        } = self;
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).map_err(system("listener"))?;
            let mut bus_gone = std::pin::pin!(relay::relay(bus, buses));
            let (threads, connections) = (hands.len(), room.connections);
            supervisor.ready(format!("{threads} threads, {connections} connections"))?;
            let turning = || {
                let now_s = started.elapsed().as_secs();
                let ticks = hands
                    .iter()
                    .map(|hand| hand.vitals.tick_s.load(Ordering::Relaxed));
                ticks
                    .min()
                    .is_some_and(|tick_s| now_s.saturating_sub(tick_s) <= TICK_S_MAX)
            };
            tokio::select! {
                never = deal(&listener, &hands) => match never {},
                error = &mut bus_gone => return Err(error),
                stopped = runtime::supervise(supervisor, turning) => stopped?,
            }
            drop(listener);
            drop(hands);
            tokio::select! {
                error = &mut bus_gone => Err(error),
                _all = tokio::time::timeout(FINISH, ended.recv()) => Ok(()),
            }
        })
    }
}

/// Accepts, and gives each connection to the thread that has fewest.
async fn deal(listener: &TcpListener, hands: &[Hand]) -> std::convert::Infallible {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // No descriptors or no memory left, or a client that went away again. Some connection
            // will end; until then it would fail at once again.
            Err(error) => {
                runtime::warn!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(socket) = socket.into_std() else {
            continue;
        };
        let load = |hand: &&Hand| hand.vitals.load.load(Ordering::Relaxed);
        if let Some(hand) = hands.iter().min_by_key(load) {
            // Where the thread with fewest is behind with taking over, the next clients wait in the listener's queue.
            let dealt = server::Dealt::new(socket, peer.ip(), &hand.vitals.load);
            let _ = hand.sockets.send(dealt).await;
        }
    }
}

/// What a serving thread starts with.
struct Thread {
    settings: Settings,
    /// The newest revision of keys and buckets that any thread has seen; the one thing that threads share.
    newest_revision: Arc<AtomicU64>,
    bus: Channel,
    accepted: mpsc::Receiver<server::Dealt>,
    vitals: Arc<Vitals>,
    started: Instant,
    room: Room,
    memory: Memory,
    seed: u64,
    /// Dropped when the thread ends.
    _end: mpsc::Sender<()>,
}

impl Thread {
    fn run<H: Handler>(self, up: &std_mpsc::Sender<io::Result<()>>, handler: H) {
        let begun = event_loop().and_then(|runtime| {
            let placeholders = Placeholders::new(self.room.working * FILES_PER_CONNECTION)?;
            Ok((runtime, placeholders))
        });
        let (runtime, placeholders) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let _ = up.send(Err(error));
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async move {
            let bus = match Bus::new(self.bus) {
                Ok(bus) => bus,
                Err(error) => {
                    let _ = up.send(Err(error));
                    return;
                }
            };
            let connections = Connections::new(self.room);
            let worker = Worker::new(
                self.settings,
                self.newest_revision,
                bus,
                self.memory,
                placeholders,
                connections,
                self.seed,
            );
            tokio::task::spawn_local(tick(worker.clone(), self.vitals, self.started));
            let _ = up.send(Ok(()));
            server::serve(worker, self.accepted, handler).await;
        });
    }
}

/// Once a second: says that this thread lives, looks for connections that are overdue or tired, and lets go of what was kept for a
/// while.
async fn tick(worker: Rc<Worker>, vitals: Arc<Vitals>, started: Instant) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut trimmed_s = 0;
    loop {
        second.tick().await;
        let now_s = started.elapsed().as_secs();
        vitals.tick_s.store(now_s, Ordering::Relaxed);
        worker.connections.tick(now_s);
        worker.blocks.tick(now_s);
        let rested = worker.connections.rested();
        if now_s.saturating_sub(trimmed_s) > TRIM_S && rested > TRIM_RESTED {
            trimmed_s = now_s;
            worker.connections.forget_rested();
            crate::sys::give_back_free_memory();
        }
    }
}
