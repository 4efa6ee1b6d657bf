//! The rules as netlink messages: one batch, one transaction.
//!
//! Numbers are those of `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`. Headers are in the
//! machine's byte order; numbers in attributes of nf_tables are big-endian.

use crate::program::Instruction;
use crate::rules::{Chain, HANDED_ON_V6, Hook, Rule, Ruleset, TABLE};

pub(crate) const HEADER: usize = 16;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NF_TABLES: u16 = 10;
const NEW_TABLE: u16 = NF_TABLES << 8;
const DELETE_TABLE: u16 = NF_TABLES << 8 | 2;
const NEW_CHAIN: u16 = NF_TABLES << 8 | 3;
const NEW_RULE: u16 = NF_TABLES << 8 | 6;
const FAMILY_INET: u8 = 1;

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const FAMILY_IPV6: u8 = 10;
const SCOPE_HOST: u8 = 254;

/// Messages that are sent at once, and what each asks for, by its number: an error names only that.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) asked: Vec<String>,
    /// Where the last message begins.
    last: usize,
}

/// Replaces our table.
pub(crate) fn install(rules: &Ruleset) -> Batch {
    let mut batch = Batch::begin();
    batch.clear_table();
    batch.table(NEW_TABLE, CREATE, "make the table");
    for chain in &rules.chains {
        batch.chain(chain);
    }
    for chain in &rules.chains {
        for rule in &chain.rules {
            batch.rule(chain, rule);
        }
    }
    batch.end()
}

/// Removes our table, if it is there.
pub(crate) fn clean_up() -> Batch {
    let mut batch = Batch::begin();
    batch.clear_table();
    batch.end()
}

/// Gives `lo` the address that the proxy hands IPv6 connections on from; for IPv4, all of 127.0.0.0/8 is there already.
pub(crate) fn add_address() -> Batch {
    address(NEW_ADDRESS, CREATE | REPLACE, "add the address ::6 to lo")
}

/// Takes it away.
pub(crate) fn delete_address() -> Batch {
    address(DELETE_ADDRESS, 0, "delete the address ::6 of lo")
}

fn address(kind: u16, flags: u16, asked: &str) -> Batch {
    let mut body = vec![FAMILY_IPV6, 128, 0, SCOPE_HOST];
    body.extend(1u32.to_ne_bytes());
    let mut attributes = Attributes::default();
    attributes.put(1, &HANDED_ON_V6.octets());
    attributes.put(2, &HANDED_ON_V6.octets());
    body.extend(attributes.0);
    let mut batch = Batch::default();
    batch.push(kind, flags | ACK, &body, asked.to_owned());
    batch
}

impl Batch {
    fn begin() -> Batch {
        let mut batch = Batch::default();
        batch.push(BATCH_BEGIN, 0, &nf_header(0, NF_TABLES), "begin a transaction".to_owned());
        batch
    }

    /// The last message asks for an answer. The others answer only when they fail.
    fn end(mut self) -> Batch {
        let flags = self.last + 6..self.last + 8;
        let told = u16::from_ne_bytes([self.bytes[flags.start], self.bytes[flags.start + 1]]);
        self.bytes[flags].copy_from_slice(&(told | ACK).to_ne_bytes());
        self.push(BATCH_END, 0, &nf_header(0, NF_TABLES), "end the transaction".to_owned());
        self
    }

    /// A table must be there to be deleted.
    fn clear_table(&mut self) {
        self.table(NEW_TABLE, CREATE, "make the table");
        self.table(DELETE_TABLE, 0, "delete the table");
    }

    fn table(&mut self, kind: u16, flags: u16, asked: &str) {
        let mut attributes = Attributes::default();
        attributes.text(1, TABLE);
        if kind == NEW_TABLE {
            attributes.number(2, 0);
        }
        self.push_nf(kind, flags, attributes, format!("{asked} inet {TABLE}"));
    }

    fn chain(&mut self, chain: &Chain) {
        let mut attributes = Attributes::default();
        attributes.text(1, TABLE);
        attributes.text(3, chain.name);
        if let Some(hook) = chain.hook {
            attributes.nest(4, |nested| {
                nested.number(1, hook.number());
                nested.put(2, &hook.priority().to_be_bytes());
            });
            // NF_ACCEPT
            attributes.number(5, 1);
            attributes.text(7, "nat");
        }
        self.push_nf(NEW_CHAIN, CREATE, attributes, format!("make the chain {}", chain.name));
    }

    fn rule(&mut self, chain: &Chain, rule: &Rule) {
        let mut attributes = Attributes::default();
        attributes.text(1, TABLE);
        attributes.text(2, chain.name);
        attributes.nest(4, |list| {
            for instruction in rule.program() {
                list.nest(1, |element| element.instruction(&instruction));
            }
        });
        attributes.put(7, &comment(rule.why));
        self.push_nf(NEW_RULE, CREATE | APPEND, attributes, format!("add to the chain {}: {rule}", chain.name));
    }

    fn push_nf(&mut self, kind: u16, flags: u16, attributes: Attributes, asked: String) {
        let mut body = nf_header(FAMILY_INET, 0).to_vec();
        body.extend(attributes.0);
        self.push(kind, flags, &body, asked);
    }

    fn push(&mut self, kind: u16, flags: u16, body: &[u8], asked: String) {
        let length = u32::try_from(HEADER + body.len()).expect("a message is short");
        let number = u32::try_from(self.asked.len()).expect("messages are few");
        self.last = self.bytes.len();
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(number.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(body);
        debug_assert!(self.bytes.len().is_multiple_of(4), "attributes are padded");
        self.asked.push(asked);
    }
}

/// `nfgenmsg`: family, version 0, resource.
fn nf_header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// As `nft` keeps a rule's comment: type, length, text with its zero.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("our comments are short");
    [&[0, length], text.as_bytes(), &[0]].concat()
}

impl Hook {
    /// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`.
    fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Output => 3,
        }
    }

    /// `NF_IP_PRI_NAT_DST`.
    pub(crate) fn priority(self) -> i32 {
        -100
    }
}

/// Type, length and value, one after the other, each at a multiple of four.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("an attribute is short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.put(kind | NESTED, &inner.0);
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let name = match instruction {
            Instruction::Meta(_) => "meta",
            Instruction::Payload { .. } => "payload",
            Instruction::Mask(_) => "bitwise",
            Instruction::Equal(_) | Instruction::NotEqual(_) => "cmp",
            Instruction::Count => "counter",
            Instruction::Return | Instruction::Goto(_) | Instruction::Port(_) => "immediate",
            Instruction::Redirect => "redir",
        };
        self.text(1, name);
        self.nest(2, |operands| operands.operands(instruction));
    }

    fn operands(&mut self, instruction: &Instruction) {
        /// `NFT_REG_1`; `NFT_REG_VERDICT` is 0.
        const REGISTER: u32 = 1;
        match instruction {
            Instruction::Meta(key) => {
                self.number(1, REGISTER);
                self.number(2, *key as u32);
            }
            Instruction::Payload { base, offset, length } => {
                self.number(1, REGISTER);
                self.number(2, *base as u32);
                self.number(3, *offset);
                self.number(4, *length);
            }
            Instruction::Mask(mask) => {
                self.number(1, REGISTER);
                self.number(2, REGISTER);
                self.number(3, u32::try_from(mask.len()).expect("an address is short"));
                self.nest(4, |data| data.put(1, mask));
                self.nest(5, |data| data.put(1, &vec![0; mask.len()]));
            }
            Instruction::Equal(value) | Instruction::NotEqual(value) => {
                self.number(1, REGISTER);
                self.number(2, u32::from(matches!(instruction, Instruction::NotEqual(_))));
                self.nest(3, |data| data.put(1, value));
            }
            // From zero.
            Instruction::Count => {}
            Instruction::Return => self.verdict(-5, None),
            Instruction::Goto(chain) => self.verdict(-4, Some(chain)),
            Instruction::Port(port) => {
                self.number(1, REGISTER);
                self.nest(2, |data| data.put(1, &port.get().to_be_bytes()));
            }
            Instruction::Redirect => {
                self.number(1, REGISTER);
                // NF_NAT_RANGE_PROTO_SPECIFIED
                self.number(3, 2);
            }
        }
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.number(1, 0);
        self.nest(2, |data| {
            data.nest(2, |verdict| {
                verdict.put(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    }
}
