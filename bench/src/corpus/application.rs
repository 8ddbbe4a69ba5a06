//! JSON lines of services: several loggers, ids, latencies, now and then a stack.

use std::io::Write;

use super::Now;
use crate::random::Random;

const SERVICES: [&str; 8] = [
    "orders",
    "gateway",
    "payments",
    "catalog-v2",
    "inventory",
    "mailer",
    "search",
    "auth",
];
const TABLES: [&str; 8] = [
    "orders",
    "order_items",
    "customers",
    "stock",
    "prices",
    "sessions",
    "invoices",
    "shipments",
];
const ERRORS: [&str; 6] = [
    "context deadline exceeded",
    "connection reset by peer",
    "pq: deadlock detected",
    "upstream returned 502",
    "no such key",
    "circuit breaker is open",
];
const FRAMES: [&str; 8] = [
    "com.example.orders.OrderService.place(OrderService.java:",
    "com.example.orders.OrderController.create(OrderController.java:",
    "com.example.common.db.Transaction.run(Transaction.java:",
    "com.example.payments.PaymentClient.charge(PaymentClient.java:",
    "org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:",
    "org.apache.catalina.core.ApplicationFilterChain.doFilter(ApplicationFilterChain.java:",
    "java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:",
    "java.base/java.lang.Thread.run(Thread.java:",
];

pub(super) fn line(random: &mut Random, now: &Now, out: &mut Vec<u8>) {
    let service = SERVICES[usize::try_from(random.skewed(SERVICES.len() as u64)).unwrap_or(0)];
    let kind = random.below(100);
    let level = match kind {
        0..=61 => "info",
        62..=89 => "debug",
        90..=95 => "warn",
        _ => "error",
    };
    let _ = write!(
        out,
        r#"{{"time":"{}.{:03}Z","level":"{level}","service":"{service}","trace_id":"{:016x}{:016x}","span_id":"{:016x}""#,
        now.iso,
        now.milliseconds(),
        random.next(),
        random.next(),
        random.next(),
    );
    match kind {
        0..=41 => request(random, out),
        42..=61 => business(random, out),
        62..=89 => query(random, out),
        90..=95 => retry(random, out),
        _ => failure(random, out),
    }
    out.push(b'}');
}

fn request(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        r#","msg":"request completed","method":"{}","route":"/api/v2/{}/:id","status":{},"duration_ms":{}.{:06},"bytes":{},"user_id":{},"remote":"{}.{}.{}.{}"#,
        random.pick(&["GET", "GET", "GET", "POST", "PUT"]),
        random.pick(&TABLES),
        random.pick(&["200", "200", "200", "201", "204", "404"]),
        random.skewed(900),
        random.below(1_000_000),
        random.skewed(400_000),
        random.below(2_000_000),
        random.between(1, 223),
        random.below(256),
        random.below(256),
        random.below(256),
    );
    out.push(b'"');
}

fn business(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        r#","msg":"{}","order_id":"ord_{:016x}","customer_id":{},"amount":{}.{:02},"currency":"{}","items":{}"#,
        random.pick(&[
            "order placed",
            "payment captured",
            "invoice created",
            "shipment scheduled",
            "stock reserved"
        ]),
        random.next(),
        random.below(2_000_000),
        random.skewed(700),
        random.below(100),
        random.pick(&["EUR", "EUR", "USD", "GBP", "CHF"]),
        1 + random.skewed(9),
    );
}

fn query(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        r#","msg":"query executed","sql":"SELECT * FROM {} WHERE id = $1 LIMIT {}","rows":{},"duration_us":{},"pool":{{"in_use":{},"idle":{}}}"#,
        random.pick(&TABLES),
        random.pick(&["1", "10", "50", "100"]),
        random.skewed(100),
        80 + random.skewed(40_000),
        random.below(20),
        random.below(20),
    );
}

fn retry(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        r#","msg":"retrying after error","error":"{}","attempt":{},"backoff_ms":{},"peer":"10.42.{}.{}:{}""#,
        random.pick(&ERRORS),
        random.between(1, 6),
        50 << random.below(6),
        random.below(16),
        random.below(256),
        random.pick(&["5432", "6379", "8080", "9092"]),
    );
}

fn failure(random: &mut Random, out: &mut Vec<u8>) {
    let error = random.pick(&ERRORS);
    let _ = write!(
        out,
        r#","msg":"request failed","error":"{error}","user_id":{},"stack":"java.io.IOException: {error}"#,
        random.skewed(200_000)
    );
    for _ in 0..random.between(3, 8) {
        let _ = write!(
            out,
            r"\n\tat {}{})",
            random.pick(&FRAMES),
            random.between(20, 900)
        );
    }
    out.push(b'"');
}
