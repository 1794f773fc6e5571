//! Everybody that the console asks, as the test wants them: a bus, and one connection at a time to each service.

use protocol::Channel;
use protocol::block::{BlockAnswer, BlockCall, BlockError, Blocks, Usage};
use protocol::bus::{BusError, Connect, ConnectAnswer, ConnectCall};
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, NodeKey, Roster, Standing};
use protocol::health::{Health, Holder, Layout, NodeReport, Placed};
use protocol::inspect::{
    Inspect, InspectAnswer, InspectCall, Machine, Node, Power, Process, Service,
};
use protocol::membership::{Member, MemberState, Membership, MembershipAnswer, MembershipCall};
use protocol::metadata::{
    AccessKey, Answer, ArrangementReport, Bucket, BucketId, BucketUsage, Call, Change,
    LayoutReport, Metadata, MetadataError, NodeShare, Operation, Reply, Rights, Shard,
};
use protocol::schedule::ScheduleReport;
use protocol::trace::{Row, Side, Trace};
use protocol::wire::{self, Conversation, Numbered};
use runtime::{AsyncChannel, Bus};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

/// So many rows are one page: few, so that lists have to be continued.
const PAGE: usize = 5;

/// Two that belong, and two that do not, of which one had a name that was given again.
fn roster() -> Roster {
    let node = |number: u8, name: &str, standing| NodeEntry {
        key: NodeKey([number; 32]),
        gossip_key: GossipKey([number; 32]),
        name: name.into(),
        zone: "home".into(),
        capacity_bytes: 1,
        mesh: String::new(),
        gossip: String::new(),
        standing,
    };
    Roster {
        cluster: ClusterId([1; 16]),
        version: 5,
        nodes: vec![
            node(1, "attic", Standing::Left),
            node(2, "attic", Standing::Member),
            node(3, "cellar", Standing::Member),
            node(4, "gone", Standing::Left),
        ],
    }
}

fn layout() -> LayoutReport {
    let role = protocol::metadata::Role {
        key: NodeKey([2; 32]),
        zone: "home".into(),
        capacity_bytes: 1,
    };
    LayoutReport {
        version: 3,
        present: ArrangementReport {
            copies: 1,
            copies_per_zone: 1,
            usable_bytes: 1,
            nodes: vec![NodeShare {
                role,
                partitions: 256,
            }],
        },
        moving: None,
        staged: None,
    }
}

/// Blocks are on attic only.
fn health_of_two() -> Health {
    let roster = roster();
    let node = |number: u8| NodeReport {
        key: NodeKey([number; 32]),
        number: number.into(),
        said: None,
        silent: None,
        lacking_blocks: None,
        lacking_bytes: None,
    };
    Health {
        roster: Some(roster),
        layout: Some(Layout {
            placed: Placed {
                copies: 1,
                holders: vec![Holder {
                    key: NodeKey([2; 32]),
                    zone: "home".into(),
                    stays: true,
                }],
                partitions: vec![vec![0]; 256],
                moving_since_ms: None,
                staged: false,
            },
            complete: vec![vec![0]; 256],
        }),
        nodes: vec![node(2), node(3)],
        shards: Vec::new(),
    }
}

#[derive(Default)]
pub(super) struct World {
    /// No other node belongs to the cluster.
    pub(super) alone: Cell<bool>,
    /// What metadata says of the cluster.
    pub(super) health: RefCell<Option<Health>>,
    /// Who else membership knows.
    pub(super) others: RefCell<Vec<Member>>,
    /// Every change that metadata was asked for.
    pub(super) changes: RefCell<Vec<Operation>>,
    pub(super) keys: RefCell<Vec<AccessKey>>,
    rights: RefCell<BTreeMap<(String, String), Rights>>,
    buckets: RefCell<Vec<String>>,
    services: RefCell<Vec<Service>>,
    pub(super) log: RefCell<Vec<String>>,
    pub(super) restarts: Cell<u32>,
    pub(super) schedule: RefCell<ScheduleReport>,
    /// What init tells of the machine.
    pub(super) machine: RefCell<Option<Machine>>,
    /// What init was told to do with the machine.
    pub(super) powers: RefCell<Vec<Power>>,
    /// Calls of any kind to any service.
    pub(super) asked: Cell<u32>,
    /// The next changes are refused so.
    pub(super) refuse: RefCell<Option<MetadataError>>,
    /// Changes are done and then not answered.
    pub(super) hang_up_on_changes: Cell<bool>,
    /// This service is not running.
    pub(super) missing: RefCell<Option<&'static str>>,
}

impl World {
    pub(super) fn new() -> Rc<Self> {
        let world = Rc::new(Self::default());
        world.add_service("bus", 2, "ready");
        world.log.borrow_mut().push("a line".into());
        world
    }

    pub(super) fn add_service(&self, name: &str, pid: u32, state: &str) {
        self.services.borrow_mut().push(Service {
            name: name.into(),
            pid,
            state: state.into(),
            restarts: 0,
            last_reason: String::new(),
            grants: vec![("door".into(), "door".into())],
            missing: Vec::new(),
            denied: Vec::new(),
        });
    }

    pub(super) fn rights_of(&self, key: &str, bucket: &str) -> Rights {
        let rights = self.rights.borrow();
        let of = rights.get(&(key.to_owned(), bucket.to_owned()));
        of.copied().unwrap_or_default()
    }

    /// The console's channel to a bus that connects it to everybody here.
    pub(super) fn bus(self: &Rc<Self>) -> Bus {
        let (ours, theirs) = Channel::pair().unwrap();
        let world = self.clone();
        let bus = AsyncChannel::new(ours).unwrap();
        tokio::task::spawn_local(async move {
            while let Ok(Some(packet)) = bus.receive().await {
                let Numbered { id, body } =
                    wire::decode::<Connect, Numbered<ConnectCall>>(&packet.bytes).unwrap();
                let ConnectCall::Open {
                    service,
                    conversation,
                } = body
                else {
                    panic!("the console asks for no listener");
                };
                let runs = *world.missing.borrow() != Some(service.as_str());
                let socket = runs.then(|| world.serve(&service, &conversation));
                let body = match &socket {
                    Some(_) => Ok(ConnectAnswer::Opened),
                    None => Err(BusError::Unavailable),
                };
                let bytes = wire::encode::<Connect>(&Numbered { id, body }).unwrap();
                let lent: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
                bus.send(&bytes, &lent).await.unwrap();
            }
        });
        Bus::new(theirs).unwrap()
    }

    fn serve(self: &Rc<Self>, service: &str, conversation: &str) -> Channel {
        let world = self.clone();
        match (service, conversation) {
            ("init" | "orchestrator", "inspect") => {
                let init = service == "init";
                answer::<Inspect>(move |call| world.inspect(init, call))
            }
            ("membership", "members") => answer::<Membership>(move |call| {
                world.count();
                assert_eq!(call, MembershipCall::Members);
                let own = Member {
                    key: NodeKey([1; 32]),
                    name: "n1".into(),
                    zone: "z1".into(),
                    address: "127.0.0.1:3901".into(),
                    mesh: String::new(),
                    capacity_bytes: 5 << 30,
                    state: MemberState::Alive,
                    incarnation: 0,
                    version: "0.1.0".into(),
                    services: "metadata console".into(),
                };
                let others = world.others.borrow().clone();
                let all = std::iter::once(own).chain(others);
                Some(MembershipAnswer::Members(all.collect()))
            }),
            ("block-store", "blocks") => answer::<Blocks>(move |call| {
                world.count();
                assert!(matches!(call, BlockCall::Usage));
                Some(Ok::<_, BlockError>(BlockAnswer::Usage(Usage {
                    capacity_bytes: 1_000,
                    free_bytes: 500,
                    files: 1,
                    packs: 1,
                    damaged: 0,
                    behind: 0,
                    settled: 0,
                })))
            }),
            ("metadata", "metadata") => answer::<Metadata>(move |call| world.metadata(call)),
            other => panic!("the console has no business with {other:?}"),
        }
    }

    fn count(&self) {
        self.asked.set(self.asked.get() + 1);
    }

    fn inspect(&self, init: bool, call: InspectCall) -> Option<InspectAnswer> {
        self.count();
        Some(match (init, call) {
            (true, InspectCall::Node) => InspectAnswer::Node(Node {
                name: "n1".into(),
                zone: "z1".into(),
                s3: "127.0.0.1:3900".into(),
                region: "us-east-1".into(),
                version: "0".into(),
                uptime_ms: 1,
                ready: true,
                missing: vec!["no io.weight here".into()],
                machine: self.machine.borrow().clone(),
            }),
            (true, InspectCall::Processes) => {
                let names = [(1, "init"), (2, "bus")];
                InspectAnswer::Processes(names.map(|(pid, name)| process(pid, name)).into())
            }
            (true, InspectCall::Services) => {
                InspectAnswer::Services(self.services.borrow().clone())
            }
            (false, InspectCall::Services) => InspectAnswer::Services(Vec::new()),
            (true, InspectCall::Logs { lines, .. }) => {
                let log = self.log.borrow();
                let last = log.iter().rev().take(lines as usize).rev();
                InspectAnswer::Logs(last.cloned().collect())
            }
            (true, InspectCall::Restart { .. }) => {
                self.restarts.set(self.restarts.get() + 1);
                InspectAnswer::Done
            }
            (true, InspectCall::Power(then)) => {
                self.powers.borrow_mut().push(then);
                InspectAnswer::Done
            }
            (true, InspectCall::Trace { for_ms, .. }) => {
                assert_eq!(for_ms, 1_000);
                InspectAnswer::Done
            }
            (true, InspectCall::Traced { .. }) => InspectAnswer::Traced(trace()),
            (false, InspectCall::Trace { service, .. }) => {
                InspectAnswer::Refused(format!("no service {service}"))
            }
            (false, InspectCall::Restart { service }) => {
                self.restarts.set(self.restarts.get() + 1);
                if self.hang_up_on_changes.get() {
                    return None;
                }
                InspectAnswer::Refused(format!("no service {service}"))
            }
            other => panic!("not to this daemon: {other:?}"),
        })
    }

    fn metadata(&self, call: Call) -> Option<Answer> {
        self.count();
        let result = match call.operation {
            Operation::ListKeys { after, .. } => Ok(self.list_keys(after.as_ref())),
            Operation::ListBuckets { after, .. } => Ok(self.list_buckets(after.as_ref())),
            Operation::Authorize { bucket, .. } => Ok(self.authorize(bucket.as_deref())),
            Operation::GetUsage { .. } => Ok(Reply::Usage(BucketUsage::default())),
            Operation::GetBucketSetting { .. } => Ok(Reply::Setting(None)),
            Operation::Shards => Ok(Reply::Shards(vec![Shard {
                number: 0,
                leader: true,
                term: 1,
                applied: 1,
                voters: vec!["n1".into()],
            }])),
            Operation::Roster => Ok(Reply::Roster(Some(self.roster()))),
            Operation::Layout => Ok(Reply::Layout(layout())),
            Operation::Schedule => Ok(Reply::Schedule(self.schedule.borrow().clone())),
            Operation::Health => {
                let health = self.health.borrow().clone();
                Ok(Reply::Health(Box::new(
                    health.unwrap_or_else(health_of_two),
                )))
            }
            Operation::Sweep { .. } => Ok(Reply::Swept {
                seen: 1,
                removed: 0,
            }),
            change => {
                self.changes.borrow_mut().push(change.clone());
                if self.hang_up_on_changes.get() {
                    return None;
                }
                match self.refuse.borrow().clone() {
                    Some(error) => Err(error),
                    None => Ok(self.change(change)),
                }
            }
        };
        Some(Answer {
            revision: 1,
            result,
        })
    }

    fn roster(&self) -> Roster {
        let mut roster = roster();
        if self.alone.get() {
            roster.nodes.retain(|node| node.name == "attic");
        }
        roster
    }

    fn change(&self, change: Operation) -> Reply {
        match change {
            Operation::EditLayout(_) | Operation::ApplyLayout { .. } => Reply::Layout(layout()),
            Operation::Change(Change::FirstKey { key }) => {
                let mut keys = self.keys.borrow_mut();
                if keys.is_empty() {
                    keys.push(key);
                }
                Reply::Key(keys[0].clone())
            }
            Operation::Change(Change::CreateKey { key }) => {
                self.keys.borrow_mut().push(key.clone());
                Reply::Key(key)
            }
            Operation::Change(Change::SetRights {
                access_key,
                bucket,
                rights,
            }) => {
                let mut all = self.rights.borrow_mut();
                all.insert((access_key, bucket), rights);
                Reply::Done
            }
            Operation::Invite { for_ms } => Reply::Invited {
                token: "TOKEN".into(),
                expires_ms: for_ms,
            },
            Operation::Drain { .. } | Operation::RestartRolling => {
                Reply::Schedule(self.schedule.borrow().clone())
            }
            Operation::SetStanding { .. } => Reply::Roster(Some(roster())),
            Operation::CreateBucket { name, hash_key, .. } => {
                self.buckets.borrow_mut().push(name.clone());
                Reply::Bucket(Bucket {
                    id: BucketId(1),
                    name,
                    owner: String::new(),
                    created_ms: 1,
                    hash_key,
                    versioned: false,
                    aliases: Vec::new(),
                })
            }
            Operation::Change(Change::DeleteKey { .. })
            | Operation::DeleteBucket { .. }
            | Operation::Change(Change::AddAlias { .. })
            | Operation::Change(Change::RemoveAlias { .. })
            | Operation::Change(Change::SetQuota { .. })
            | Operation::Change(Change::SetBucketSetting { .. }) => Reply::Done,
            other => panic!("the console has no business with {other:?}"),
        }
    }

    fn list_keys(&self, after: Option<&String>) -> Reply {
        let mut keys = self.keys.borrow().clone();
        keys.sort_by(|a, b| a.access_key.cmp(&b.access_key));
        keys.retain(|key| after.is_none_or(|after| key.access_key > *after));
        let more = keys.len() > PAGE;
        let rights = self.rights.borrow();
        let with_rights = |mut key: AccessKey| {
            key.secret_key.clear();
            let of = |((owner, bucket), rights): (&(String, String), &Rights)| {
                (*owner == key.access_key).then(|| (bucket.clone(), *rights))
            };
            let held = rights.iter().filter_map(of).collect();
            (key, held)
        };
        Reply::Keys {
            keys: keys.into_iter().take(PAGE).map(with_rights).collect(),
            more,
        }
    }

    fn authorize(&self, name: Option<&str>) -> Reply {
        let buckets = self.buckets.borrow();
        let found = buckets.iter().find(|bucket| Some(bucket.as_str()) == name);
        Reply::Authorized {
            key: None,
            bucket: found.map(|name| Bucket {
                id: BucketId(1),
                name: name.clone(),
                owner: String::new(),
                created_ms: 1,
                hash_key: protocol::block::HashKey([0; 32]),
                versioned: false,
                aliases: Vec::new(),
            }),
            rights: Rights::default(),
            documents: protocol::settings::AccessDocuments::default(),
        }
    }

    fn list_buckets(&self, after: Option<&String>) -> Reply {
        let mut names = self.buckets.borrow().clone();
        names.sort();
        names.retain(|name| after.is_none_or(|after| name > after));
        let more = names.len() > PAGE;
        let bucket = |name| {
            let bucket = Bucket {
                id: BucketId(1),
                name,
                owner: String::new(),
                created_ms: 1,
                hash_key: protocol::block::HashKey([0; 32]),
                versioned: false,
                aliases: Vec::new(),
            };
            (bucket, BucketUsage::default())
        };
        Reply::Buckets {
            buckets: names.into_iter().take(PAGE).map(bucket).collect(),
            more,
        }
    }
}

fn process(pid: u32, name: &str) -> Process {
    Process {
        name: name.into(),
        pid,
        host_pid: 4_000 + pid,
        resident_bytes: 1 << 20,
        proportional_bytes: 1 << 19,
        cpu_ms: 1,
        threads: 1,
        seccomp: 2,
        capabilities: 0,
        no_new_privs: true,
        descriptors: vec![(0, "/dev/null".into()), (7, "/dev/mem".into())],
        sockets: Vec::new(),
    }
}

/// A connection whose calls are answered so; `None` hangs up. The other end is for the console.
fn answer<C: Conversation>(
    mut with: impl FnMut(C::Call) -> Option<C::Answer> + 'static,
) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    let channel = AsyncChannel::new(ours).unwrap();
    tokio::task::spawn_local(async move {
        while let Ok(Some(packet)) = channel.receive().await {
            let Numbered { id, body } =
                wire::decode::<C, Numbered<C::Call>>(&packet.bytes).unwrap();
            let Some(body) = with(body) else { return };
            let bytes = wire::encode::<C>(&Numbered { id, body }).unwrap();
            if channel.send(&bytes, &[]).await.is_err() {
                return;
            }
        }
    });
    theirs
}

/// A service that served once, was given a descriptor, and then called what it may not.
fn trace() -> Trace {
    Trace {
        over: true,
        covered_ms: 1_000,
        rows: vec![Row {
            side: Side::Asked,
            conversation: "connect".into(),
            call: "Open".into(),
            count: 2,
            total_us: 30,
            longest_us: 20,
            received: 2,
            given: 0,
        }],
        denied: vec![("socket".into(), 1)],
        ended: vec!["filter violation socket".into()],
    }
}
