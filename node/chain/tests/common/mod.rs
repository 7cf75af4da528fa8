//! A scripted JSON-RPC server: a small modelled chain that refuses in the recorded words of Besu.
#![allow(dead_code)]

pub mod world;

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use diversity_chain::submitter::{Journal, JournalError};
use diversity_proto::Digest;
use diversity_proto::domain::keccak_raw;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A recorded answer by its name in the fixture file: HTTP status and body.
pub fn recorded(name: &str) -> (u16, Value) {
    let all: Value = serde_json::from_str(include_str!("../fixtures/besu.json")).unwrap();
    let answer = &all["answers"][name];
    assert!(answer.is_object(), "no recorded answer {name}");
    (
        answer["status"].as_u64().unwrap() as u16,
        answer["body"].clone(),
    )
}

/// What the server knows and how it behaves.
pub struct Chain {
    pub chain_id: u64,
    pub genesis: u8,
    /// Heads by number; `fork` distinguishes blocks of one number.
    pub forks: Vec<u8>,
    /// Which recorded header the blocks are made of.
    pub header: &'static str,
    pub balance: u128,
    /// Sent and not mined: nonce, hash, raw.
    pub pool: BTreeMap<u64, (Digest, Vec<u8>)>,
    /// Nonce: hash, block.
    pub mined: BTreeMap<u64, (Digest, u64)>,
    /// Logs by block.
    pub logs: Vec<Value>,
    /// `eth_getLogs` may span so many blocks.
    pub log_range: u64,
    /// Takes transactions and forgets them.
    pub forgets: bool,
    /// A block with each transaction.
    pub automine: bool,
    /// Answers by method that come before everything else.
    pub script: BTreeMap<String, String>,
    /// Every request: method and parameters.
    pub asked: Vec<(String, Value)>,
    /// Everything that was sent.
    pub sent: Vec<Vec<u8>>,
    /// Connections are closed without an answer.
    pub dead: bool,
    /// Requests are taken and never answered.
    pub hangs: bool,
    /// What is answered to `eth_getLogs` over more blocks than `log_range`: HTTP status and error. Besu's words if none.
    pub logs_refusal: Option<(u16, Value)>,
    /// What every request is answered, as it goes over the wire.
    pub raw: Option<String>,
    /// The head of the last request.
    pub last_head: String,
}

impl Chain {
    pub fn new() -> Self {
        Self {
            chain_id: 1337,
            genesis: 1,
            forks: vec![0; 11],
            header: "block_zero_fee",
            balance: 0,
            pool: BTreeMap::new(),
            mined: BTreeMap::new(),
            logs: Vec::new(),
            log_range: 5_000,
            forgets: false,
            automine: false,
            script: BTreeMap::new(),
            asked: Vec::new(),
            sent: Vec::new(),
            dead: false,
            hangs: false,
            logs_refusal: None,
            raw: None,
            last_head: String::new(),
        }
    }
    pub fn head(&self) -> u64 {
        self.forks.len() as u64 - 1
    }
    pub fn hash(&self, number: u64) -> Digest {
        // Commits to everything before, as a block hash does.
        let mut bytes = vec![self.genesis];
        bytes.extend_from_slice(&self.forks[..=number as usize]);
        Digest(keccak_raw(&bytes))
    }
    pub fn mine(&mut self) {
        self.forks.push(0);
        let head = self.head();
        while let Some((hash, _)) = self.pool.remove(&(self.mined.len() as u64)) {
            self.mined.insert(self.mined.len() as u64, (hash, head));
        }
    }
    pub fn log(&mut self, block: u64, index: u64, topics: Value, data: &[u8]) {
        self.log_in(Digest([block as u8; 32]), block, index, topics, data);
    }
    /// An event in a transaction that has no other part than its events.
    pub fn log_in(&mut self, tx: Digest, block: u64, index: u64, topics: Value, data: &[u8]) {
        let hash = self.hash(block);
        self.logs.push(json!({
            "address": "0x00000000000000000000000000000000000000cc",
            "topics": topics,
            "data": alloy::primitives::hex::encode_prefixed(data),
            "blockNumber": format!("{block:#x}"),
            "blockHash": hash.hex(),
            "transactionHash": tx.hex(),
            "transactionIndex": "0x0",
            "logIndex": format!("{index:#x}"),
            "removed": false,
        }));
    }
    fn block(&self, number: u64) -> Value {
        let mut body = recorded(self.header).1["result"].clone();
        body["number"] = json!(format!("{number:#x}"));
        body["hash"] = json!(self.hash(number).hex());
        let parent = number.checked_sub(1).map_or(Digest::ZERO, |n| self.hash(n));
        body["parentHash"] = json!(parent.hex());
        let here = self.logs.iter().filter(|l| l["blockHash"] == body["hash"]);
        let mut txs: Vec<_> = here.map(|l| l["transactionHash"].clone()).collect();
        txs.dedup();
        body["transactions"] = Value::Array(txs);
        body
    }
    pub fn asked_for(&self, method: &str) -> usize {
        self.asked.iter().filter(|(m, _)| m == method).count()
    }

    /// HTTP status and body.
    pub fn answer(&mut self, method: &str, params: &Value) -> (u16, Value) {
        self.asked.push((method.into(), params.clone()));
        let ok = |v: Value| (200, json!({"jsonrpc": "2.0", "id": 1, "result": v}));
        if let Some(name) = self.script.get("*").or_else(|| self.script.get(method)) {
            return recorded(name);
        }
        let number = |v: &Value| u64::from_str_radix(v.as_str()?.strip_prefix("0x")?, 16).ok();
        match method {
            "eth_chainId" => ok(json!(format!("{:#x}", self.chain_id))),
            "eth_getBlockByNumber" => match params[0].as_str() {
                Some("latest") => ok(self.block(self.head())),
                Some("finalized" | "safe") => recorded("finalized"),
                _ => match number(&params[0]) {
                    Some(n) if n <= self.head() => ok(self.block(n)),
                    _ => recorded("absent_block_new"),
                },
            },
            "eth_getTransactionCount" => ok(json!(format!("{:#x}", self.mined.len()))),
            "eth_getBalance" => ok(json!(format!("{:#x}", self.balance))),
            "eth_getCode" => ok(json!("0x6000")),
            "eth_estimateGas" => ok(json!("0x7530")),
            "eth_gasPrice" => ok(json!("0x3b9aca00")),
            "eth_getLogs" => {
                let (from, to) = (
                    number(&params[0]["fromBlock"]),
                    number(&params[0]["toBlock"]),
                );
                let (Some(from), Some(to)) = (from, to) else {
                    return recorded("logs_beyond_head");
                };
                if to > self.head() || from > to {
                    return recorded("logs_beyond_head");
                }
                if to - from > self.log_range {
                    return match &self.logs_refusal {
                        None => recorded("logs_range"),
                        Some((status, error)) => {
                            (*status, json!({"jsonrpc": "2.0", "id": 1, "error": error}))
                        }
                    };
                }
                let topics = params[0]["topics"].as_array().cloned().unwrap_or_default();
                let inside = |l: &&Value| {
                    number(&l["blockNumber"]).is_some_and(|n| (from..=to).contains(&n))
                        && (topics.iter().enumerate()).all(|(i, any)| {
                            any.as_array().is_none_or(|a| a.contains(&l["topics"][i]))
                        })
                };
                ok(Value::Array(
                    self.logs.iter().filter(inside).cloned().collect(),
                ))
            }
            "eth_getTransactionReceipt" => {
                let found = self
                    .mined
                    .values()
                    .find(|(h, _)| Some(h.hex().as_str()) == params[0].as_str());
                let logged = self
                    .logs
                    .iter()
                    .filter(|l| l["transactionHash"] == params[0]);
                let logged: Vec<_> = logged.cloned().collect();
                let Some((hash, block)) = found else {
                    let Some(first) = logged.first() else {
                        return ok(Value::Null);
                    };
                    let mut receipt = recorded("receipt_mined").1["result"].clone();
                    for field in ["transactionHash", "blockNumber", "blockHash"] {
                        receipt[field] = first[field].clone();
                    }
                    receipt["logs"] = Value::Array(logged);
                    return ok(receipt);
                };
                let mut receipt = recorded("receipt_mined").1["result"].clone();
                receipt["transactionHash"] = json!(hash.hex());
                receipt["blockNumber"] = json!(format!("{block:#x}"));
                receipt["blockHash"] = json!(self.hash(*block).hex());
                ok(receipt)
            }
            "eth_getTransactionByHash" => ok(Value::Null),
            "eth_sendRawTransaction" => {
                let raw = alloy::primitives::hex::decode(params[0].as_str().unwrap()).unwrap();
                self.sent.push(raw.clone());
                let tx = TxEnvelope::decode_2718(&mut &raw[..]).unwrap();
                let hash = Digest(tx.tx_hash().0);
                if tx.chain_id() != Some(self.chain_id) {
                    return recorded("wrong_chain_id");
                }
                if tx.nonce() < self.mined.len() as u64 {
                    return recorded("nonce_too_low");
                }
                if self.pool.get(&tx.nonce()).is_some_and(|(h, _)| *h == hash) {
                    return recorded("known_transaction");
                }
                if !self.forgets {
                    self.pool.insert(tx.nonce(), (hash, raw));
                }
                if self.automine {
                    self.mine();
                }
                ok(json!(hash.hex()))
            }
            _ => recorded("method_off"),
        }
    }
}

/// A running server.
pub struct Server {
    pub url: String,
    pub chain: Arc<Mutex<Chain>>,
    /// Counts requests, so that tests wait for events and not for time.
    pub served: watch::Receiver<u64>,
}

impl Server {
    pub async fn start(chain: Chain) -> Self {
        Self::of(Arc::new(Mutex::new(chain))).await
    }
    /// Another endpoint of the same chain, or of its own.
    pub async fn of(chain: Arc<Mutex<Chain>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (count, served) = watch::channel(0);
        let shared = chain.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(serve(stream, shared.clone(), count.clone()));
            }
        });
        Self { url, chain, served }
    }
    pub fn with<T>(&self, f: impl FnOnce(&mut Chain) -> T) -> T {
        f(&mut self.chain.lock().unwrap())
    }
    /// Waits until the chain is as wanted; looked at after each request.
    pub async fn until(&self, what: &str, f: impl Fn(&Chain) -> bool) {
        let mut served = self.served.clone();
        let wait = async {
            while !self.with(|c| f(c)) {
                served.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait)
            .await
            .unwrap_or_else(|_| panic!("did not happen: {what}"));
    }
}

async fn serve(stream: TcpStream, chain: Arc<Mutex<Chain>>, count: watch::Sender<u64>) {
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut stream).await {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let answer = {
            let mut chain = chain.lock().unwrap();
            chain.last_head = head;
            if chain.dead {
                return;
            }
            let (method, params) = (request["method"].as_str().unwrap(), &request["params"]);
            match chain.raw.clone() {
                _ if chain.hangs => {
                    chain.asked.push((method.into(), params.clone()));
                    None
                }
                Some(raw) => {
                    chain.asked.push((method.into(), params.clone()));
                    Some(raw.into_bytes())
                }
                None => {
                    let (status, body) = chain.answer(method, params);
                    Some(response(status, &body))
                }
            }
        };
        let Some(answer) = answer else {
            count.send_modify(|n| *n += 1);
            // Until the client has gone away.
            let _ = stream.read_u8().await;
            return;
        };
        let written = stream.get_mut().write_all(&answer).await;
        count.send_modify(|n| *n += 1);
        if written.is_err() {
            return;
        }
    }
}

pub fn response(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} Recorded\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut length = 0;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        head.push_str(&line);
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// A journal in memory that outlives the outbox.
#[derive(Default)]
pub struct Memory(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Journal for Memory {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), JournalError> {
        self.0.lock().unwrap().insert(key.to_vec(), value.to_vec());
        Ok(())
    }
    fn delete(&self, key: &[u8]) -> Result<(), JournalError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
    fn scan(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, JournalError> {
        Ok(self.0.lock().unwrap().clone().into_iter().collect())
    }
}
