//! Processes of the shop, and what a test asks of them.

use reqwest::{Client, Method, StatusCode};
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before a test gives up: far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Asks again and again until `ask` has an answer. The only place where tests wait.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// One process of a service. Killed when dropped.
pub(crate) struct Process {
    pub(crate) service: &'static str,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// As the power cord would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the process ends", || std::future::ready(child.try_wait().unwrap())).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shop's folder, and an address that no other test uses: a killed process gets its port back.
pub(crate) struct World {
    folder: TempDir,
    host: Ipv4Addr,
    client: Client,
    pub(crate) product_url: String,
    pub(crate) payment_url: String,
    /// What services are told besides when they start.
    pub(crate) settings: Vec<(&'static str, &'static str)>,
}

impl World {
    pub(crate) fn new() -> World {
        static WORLDS: AtomicU32 = AtomicU32::new(1);
        let pid = std::process::id();
        let n = WORLDS.fetch_add(1, Ordering::Relaxed) as u8;
        let host = Ipv4Addr::new(127, 100 + (pid / 256 % 100) as u8, (pid % 256) as u8, n);
        let client = Client::builder().no_proxy().build().unwrap();
        let nobody = || "http://127.0.0.1:9".to_owned();
        World {
            folder: tempfile::tempdir().unwrap(),
            host,
            client,
            product_url: nobody(),
            payment_url: nobody(),
            settings: Vec::new(),
        }
    }

    /// Order, delivery, product, payment, one of each.
    pub(crate) async fn open_shop() -> (World, [Process; 4]) {
        let mut world = World::new();
        let (product, payment) = (world.start("product").await, world.start("payment").await);
        world.product_url = product.url("");
        world.payment_url = payment.url("");
        let (order, delivery) = (world.start("order").await, world.start("delivery").await);
        (world, [order, delivery, product, payment])
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) async fn start(&self, service: &'static str) -> Process {
        self.start_at(service, 0).await
    }

    /// The same service again, at the same address.
    pub(crate) async fn restart(&self, killed: &mut Process) {
        killed.kill();
        *killed = self.start_at(killed.service, killed.address.port()).await;
    }

    async fn start_at(&self, service: &'static str, port: u16) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft-shop"))
            .arg(service)
            .env_clear()
            .env("HOST", self.host.to_string())
            .env("PORT", port.to_string())
            .env("DATA_DIR", self.data())
            .env("PRODUCT_URL", &self.product_url)
            .env("PAYMENT_URL", &self.payment_url)
            // Orders are not refused because the machine is busy.
            .env("PAYMENT_TIMEOUT_MS", "3000")
            .envs(self.settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            // Reads to the end, or the process would block on a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("the log is JSON lines");
                if line["level"] == "ERROR" {
                    eprintln!("{service}: {line}");
                }
                if line["message"] == "listening"
                    && let Some(tell) = tell.take()
                {
                    let _ = tell.send(line["address"].as_str().unwrap().parse::<SocketAddr>().unwrap());
                }
            }
        });
        let address = told.await.unwrap_or_else(|_| panic!("{service} ended before it listened"));
        Process { service, child, address }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        url: String,
        body: Option<Value>,
    ) -> reqwest::Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, url).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null)))
    }

    pub(crate) async fn get(&self, process: &Process, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, process.url(path), None).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Like `get`, of what need not be there yet.
    pub(crate) async fn try_get(&self, process: &Process, path: &str) -> Option<Value> {
        let (status, body) = self.ask(Method::GET, process.url(path), None).await.ok()?;
        (status == 200).then_some(body)
    }

    pub(crate) async fn register(&self, product: &Process, stock: u64) {
        let body = json!({ "productName": "TV", "stock": stock });
        let (status, body) = self.ask(Method::POST, product.url("/inventories"), Some(body)).await.unwrap();
        assert_eq!(status, 201, "{body}");
    }

    pub(crate) async fn place(&self, order: &Process, qty: u64) -> Value {
        let body = json!({ "productId": 1, "productName": "TV", "qty": qty, "customerId": 100 });
        let (status, body) = self.ask(Method::POST, order.url("/orders"), Some(body)).await.unwrap();
        assert_eq!(status, 201, "{body}");
        body
    }

    /// All resources of a list, page by page.
    pub(crate) async fn all(&self, process: &Process, path: &str, rel: &str) -> Vec<Value> {
        let mut all = Vec::new();
        for page in 0.. {
            let and = if path.contains('?') { '&' } else { '?' };
            let body = self.get(process, &format!("{path}{and}page={page}&size=1000")).await;
            all.extend(body["_embedded"][rel].as_array().unwrap().iter().cloned());
            if page + 1 >= body["page"]["totalPages"].as_u64().unwrap() {
                break;
            }
        }
        all
    }

    /// Waits until every order, its delivery, the inventory and my page agree, and checks that nothing got lost or
    /// counted twice. Returns the number of orders.
    pub(crate) async fn settled(
        &self,
        order: &Process,
        delivery: &Process,
        product: &Process,
        registered: u64,
    ) -> usize {
        until("no order is half taken", || async {
            let drafts = self.query("order/orders.db", "SELECT count(*) FROM drafts", |row| row.get::<_, i64>(0));
            (drafts == [0]).then_some(())
        })
        .await;
        let orders = self.all(order, "/orders", "orders").await;
        let wanted: u64 = orders.iter().filter(|o| o["status"] == "PLACED").map(|o| o["qty"].as_u64().unwrap()).sum();
        let canceled = orders.iter().filter(|o| o["status"] == "CANCELED").count();
        let expected: BTreeMap<String, &Value> = orders.iter().map(|o| (o["orderId"].to_string(), o)).collect();
        until("deliveries agree with orders, and the inventory with both", || async {
            let deliveries = self.all(delivery, "/deliveries", "deliveries").await;
            let inventory = self.get(product, "/inventories/1").await;
            let done = deliveries.len() == orders.len()
                && deliveries.iter().filter(|d| d["status"] == "CANCELED").count() == canceled
                && deliveries.iter().all(|d| d["status"] != "BACKORDERED")
                && inventory["shipped"] == wanted;
            done.then_some(())
        })
        .await;
        let inventory = self.get(product, "/inventories/1").await;
        assert_eq!(inventory["stock"].as_u64().unwrap() + wanted, registered, "{inventory}");
        for delivery in self.all(delivery, "/deliveries", "deliveries").await {
            let order = expected[&delivery["orderId"].to_string()];
            assert_eq!(delivery["qty"], order["qty"]);
            assert_eq!(delivery["status"] == "CANCELED", order["status"] == "CANCELED", "{delivery} {order}");
        }
        until("my page agrees", || async {
            let pages = self.all(order, "/mypages", "mypages").await;
            let agree = |p: &Value| match expected[&p["orderId"].to_string()]["status"].as_str() {
                Some("PLACED") => p["deliveryStatus"] == "STARTED",
                _ => p["deliveryStatus"] == "CANCELED" && p["orderStatus"] == "CANCELED",
            };
            (pages.len() == orders.len() && pages.iter().all(agree)).then_some(())
        })
        .await;
        until("every group has handled every event", || async {
            let sql = "SELECT coalesce(sum(committed), 0) FROM partitions GROUP BY grp";
            let handled = self.query("events/groups.db", sql, |row| row.get::<_, i64>(0));
            let all = self.log("SELECT count(*) FROM records", |row| row.get::<_, i64>(0))[0];
            (handled == [all; 4]).then_some(())
        })
        .await;
        self.money_adds_up(&orders);
        let twice: Vec<_> = self.told().into_iter().filter(|(_, times)| *times > 1).collect();
        assert_eq!(twice, [], "told more than once");
        orders.len()
    }

    /// From the ledger itself: every order that stands has been charged its amount, once; every canceled one has it back,
    /// once; and nobody has paid for what was never taken.
    fn money_adds_up(&self, orders: &[Value]) {
        let sql =
            "SELECT order_id, json_group_array(amount ORDER BY number) FROM ledger WHERE kind != 'VOID' GROUP BY 1";
        let moved = self.query("payment/ledger.db", sql, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
        let mut moved: BTreeMap<i64, Vec<i64>> =
            moved.into_iter().map(|(id, amounts)| (id, serde_json::from_str(&amounts).unwrap())).collect();
        for order in orders {
            let amount = order["amount"].as_i64().unwrap();
            let due = if order["status"] == "PLACED" { vec![amount] } else { vec![amount, -amount] };
            assert_eq!(moved.remove(&order["orderId"].as_i64().unwrap()), Some(due), "{order}");
        }
        for (order, amounts) in moved {
            assert!(
                amounts.len() == 2 && amounts.iter().sum::<i64>() == 0,
                "order {order} is none, and paid {amounts:?}"
            );
        }
    }

    /// From the event log itself: how often each event was told of each order.
    pub(crate) fn told(&self) -> Vec<(String, u64)> {
        let sql = "SELECT json_extract(value, '$.type') || ' of ' || key, count(*) FROM records GROUP BY 1";
        self.log(sql, |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))
    }

    /// Asks the event log's own tables.
    pub(crate) fn log<T>(&self, sql: &str, row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        self.query("events/log.db", sql, row)
    }

    pub(crate) fn query<T>(&self, file: &str, sql: &str, row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let path = self.data().join(file);
        let log = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        log.busy_timeout(PATIENCE).unwrap();
        let mut statement = log.prepare(sql).unwrap();
        statement.query_map([], row).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }
}
