//! Lines of `/var/log/syslog` and `auth.log` in the traditional format.

use std::io::Write;

use super::Now;
use crate::random::Random;

const HOSTS: [&str; 3] = ["web-01", "db-02", "edge-gw-17"];
const UNITS: [&str; 10] = [
    "Daily apt download activities",
    "Rotate log files",
    "Session 4711 of User root",
    "Docker Application Container Engine",
    "Clean php session files",
    "Network Time Synchronization",
    "Certbot renewal",
    "User Manager for UID 1000",
    "Message of the Day",
    "Discard unused filesystem blocks",
];
const USERS: [&str; 10] = [
    "root", "admin", "deploy", "ubuntu", "oracle", "git", "postgres", "test", "guest", "support",
];

pub(super) fn line(random: &mut Random, now: &Now, out: &mut Vec<u8>) {
    let _ = write!(out, "{} {} ", now.syslog, random.pick(&HOSTS));
    let message = [
        sshd, sshd, sshd, haproxy, systemd, kernel, cron, postfix, haproxy, postgres, containerd, named,
        network, sudo,
    ];
    let index = usize::try_from(random.below(message.len() as u64)).unwrap_or(0);
    message[index](random, out);
}

fn pid(random: &mut Random) -> u64 {
    800 + random.below(3_900_000)
}

fn address(random: &mut Random) -> String {
    format!(
        "{}.{}.{}.{}",
        random.between(1, 223),
        random.below(256),
        random.below(256),
        random.below(256)
    )
}

fn sshd(random: &mut Random, out: &mut Vec<u8>) {
    let (pid, from, user) = (pid(random), address(random), random.pick(&USERS));
    let port = random.between(1024, 65_535);
    let _ = match random.below(5) {
        0 => write!(
            out,
            "sshd[{pid}]: Failed password for invalid user {user} from {from} port {port} ssh2"
        ),
        1 => write!(
            out,
            "sshd[{pid}]: Accepted publickey for {user} from {from} port {port} ssh2: ED25519 SHA256:{:016x}{:016x}",
            random.next(),
            random.next()
        ),
        2 => write!(
            out,
            "sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid={}) by (uid=0)",
            random.below(2000)
        ),
        3 => write!(
            out,
            "sshd[{pid}]: error: maximum authentication attempts exceeded for {user} from {from} port {port} ssh2 [preauth]"
        ),
        _ => write!(
            out,
            "sshd[{pid}]: Received disconnect from {from} port {port}:11: Bye Bye [preauth]"
        ),
    };
}

fn systemd(random: &mut Random, out: &mut Vec<u8>) {
    let unit = random.pick(&UNITS);
    let _ = match random.below(4) {
        0 => write!(out, "systemd[1]: Starting {unit}..."),
        1 => write!(out, "systemd[1]: Started {unit}."),
        2 => write!(
            out,
            "systemd[1]: apt-daily.service: Consumed {}.{:03}s CPU time, {}.{}M memory peak.",
            random.below(9),
            random.below(1000),
            random.below(300),
            random.below(10)
        ),
        _ => write!(out, "systemd[1]: Finished {unit}."),
    };
}

fn kernel(random: &mut Random, out: &mut Vec<u8>) {
    let uptime = random.below(9_000_000);
    let _ = write!(out, "kernel: [{uptime:>7}.{:06}] ", random.below(1_000_000));
    let _ = match random.below(3) {
        0 => write!(
            out,
            "[UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:{:02x}:{:02x}:9a:52:54:00:12:35:02:08:00 SRC={} DST=10.0.2.15 LEN={} TOS=0x00 PREC=0x00 TTL={} ID={} PROTO=TCP SPT={} DPT={} WINDOW=1024 RES=0x00 SYN URGP=0",
            random.below(256),
            random.below(256),
            address(random),
            random.between(40, 60),
            random.between(40, 255),
            random.below(65_536),
            random.between(1024, 65_535),
            random.pick(&["22", "23", "80", "443", "3389", "8080"]),
        ),
        1 => write!(
            out,
            "EXT4-fs (sd{}{}): mounted filesystem with ordered data mode. Opts: (null)",
            random.pick(&["a", "b", "c"]),
            random.between(1, 9)
        ),
        _ => write!(
            out,
            "TCP: request_sock_TCP: Possible SYN flooding on port {}. Sending cookies.  Check SNMP counters.",
            random.between(80, 9000)
        ),
    };
}

fn cron(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "CRON[{}]: ({}) CMD ({})",
        pid(random),
        random.pick(&["root", "www-data", "backup"]),
        random.pick(&[
            "   cd / && run-parts --report /etc/cron.hourly",
            "command -v debian-sa1 > /dev/null && debian-sa1 1 1",
            "/usr/local/bin/backup --incremental --quiet /srv",
            "[ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean"
        ]),
    );
}

fn postfix(random: &mut Random, out: &mut Vec<u8>) {
    let (pid, queue) = (pid(random), random.next() >> 24);
    let _ = match random.below(3) {
        0 => write!(
            out,
            "postfix/smtp[{pid}]: {queue:010X}: to=<user{}@example.net>, relay=mx{}.example.net[{}]:25, delay={}.{}, delays=0.02/0.01/0.5/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {:010X})",
            random.skewed(5_000),
            random.between(1, 4),
            address(random),
            random.below(9),
            random.below(100),
            random.next() >> 24
        ),
        1 => write!(
            out,
            "postfix/smtpd[{pid}]: connect from unknown[{}]",
            address(random)
        ),
        _ => write!(out, "postfix/qmgr[{pid}]: {queue:010X}: removed"),
    };
}

fn haproxy(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "haproxy[{}]: {}:{} fe_https~ be_app/app{} {}/0/{}/{}/{} {} {} - - ---- {}/{}/{}/{}/0 0/0 \"GET /api/v2/items/{} HTTP/1.1\"",
        pid(random),
        address(random),
        random.between(1024, 65_535),
        random.between(1, 9),
        random.below(5),
        random.below(3),
        random.skewed(400),
        random.skewed(500),
        random.pick(&["200", "200", "200", "404", "503"]),
        random.skewed(30_000),
        random.below(900),
        random.below(800),
        random.below(90),
        random.below(30),
        random.skewed(100_000),
    );
}

fn postgres(random: &mut Random, out: &mut Vec<u8>) {
    let pid = pid(random);
    let _ = match random.below(3) {
        0 => write!(
            out,
            "postgres[{pid}]: [{}-1] app@shop LOG:  duration: {}.{:03} ms  execute <unnamed>: SELECT id, name, price FROM products WHERE category_id = $1 ORDER BY created_at DESC LIMIT {}",
            random.below(90),
            random.between(100, 9_000),
            random.below(1000),
            random.between(10, 200)
        ),
        1 => write!(
            out,
            "postgres[{pid}]: [{}-1] LOG:  checkpoint complete: wrote {} buffers ({}.{}%); 0 WAL file(s) added, {} removed, 0 recycled",
            random.below(90),
            random.skewed(16_000),
            random.below(60),
            random.below(10),
            random.below(4)
        ),
        _ => write!(
            out,
            "postgres[{pid}]: [{}-1] app@shop ERROR:  duplicate key value violates unique constraint \"orders_pkey\"",
            random.below(90)
        ),
    };
}

fn containerd(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "containerd[{}]: level={} msg=\"{}\" id={:016x}{:016x} namespace=k8s.io",
        pid(random),
        random.pick(&["info", "info", "info", "warning"]),
        random.pick(&[
            "shim disconnected",
            "cleaning up after shim disconnected",
            "StartContainer returns successfully",
            "Container exec exited"
        ]),
        random.next(),
        random.next(),
    );
}

fn named(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "named[{}]: client @0x{:012x} {}#{} (host{}.example.org): query: host{}.example.org IN {} +E(0)K (10.0.0.53)",
        pid(random),
        random.next() >> 16,
        address(random),
        random.between(1024, 65_535),
        random.skewed(900),
        random.skewed(900),
        random.pick(&["A", "AAAA", "MX", "TXT"]),
    );
}

fn network(random: &mut Random, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "dhclient[{}]: DHCPREQUEST for 192.168.{}.{} on eth{} to 192.168.1.1 port 67 (xid=0x{:08x})",
        pid(random),
        random.below(4),
        random.between(2, 254),
        random.below(3),
        random.next() >> 32,
    );
}

fn sudo(random: &mut Random, out: &mut Vec<u8>) {
    let user = random.pick(&USERS);
    let _ = write!(
        out,
        "sudo: {user:>8} : TTY=pts/{} ; PWD=/home/{user} ; USER=root ; COMMAND=/usr/bin/{}",
        random.below(9),
        random.pick(&[
            "systemctl restart nginx",
            "journalctl -u docker -n 200",
            "apt-get update",
            "tail -f /var/log/syslog",
            "ls -la /etc/ssl/private"
        ]),
    );
}
