//! A server in the place of a broker, which answers as it is told or not at all.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// This is longer than any client waits.
const SILENCE: Duration = Duration::from_secs(30);

/// What it answers to every request.
#[derive(Clone, Debug)]
pub enum Saying {
    /// Sends these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Reads the request and sends nothing.
    Nothing,
    /// Sends one byte of a body each second.
    Drip,
    /// Answers each request with the next of these; the last one is repeated.
    InTurn(Vec<Saying>),
}

impl Saying {
    /// A complete answer. Each of the `headers` ends in `\r\n`.
    pub fn answer(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n\
             {body}"
        );
        Self::Bytes(text.into_bytes())
    }

    /// The problem with which a broker denies a request.
    pub fn problem(status: &str, slug: &str, detail: &str, headers: &str) -> Self {
        let headers = format!("content-type: application/problem+json\r\n{headers}");
        let body = serde_json::json!({
            "type": format!("urn:rise:problem:{slug}"), "title": "t", "status": 0, "detail": detail,
            "request_id": "01M7XW52RJVA23PFBZSRPG9G5D"
        });
        Self::answer(status, &headers, &body.to_string())
    }
}

/// Listens until the test process ends.
#[derive(Debug)]
pub struct BrokerDouble {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl BrokerDouble {
    pub fn start(saying: Saying) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let double =
            Self { url, requests: Arc::clone(&requests), connections: Arc::clone(&connections) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, saying) = (Arc::clone(&requests), saying.clone());
                std::thread::spawn(move || serve(stream, &saying, &requests));
            }
        });
        double
    }

    /// Every request so far, with its headers and the part of its body that came with them.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, saying: &Saying, requests: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    while !is_whole(&request) {
        match stream.read(&mut chunk) {
            Ok(length) if length > 0 => request.extend(&chunk[..length]),
            _ => break,
        }
    }
    let mut all = requests.lock().unwrap();
    all.push(String::from_utf8_lossy(&request).into_owned());
    let number = all.len() - 1;
    drop(all);
    let saying = if let Saying::InTurn(turns) = saying {
        turns.get(number).or(turns.last()).unwrap()
    } else {
        saying
    };
    match saying {
        Saying::InTurn(_) => unreachable!("turns within turns"),
        Saying::Bytes(bytes) => drop(stream.write_all(bytes)),
        Saying::Nothing => drop(stream.read(&mut chunk)),
        Saying::Drip => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                 content-length: 1000\r\n\r\n";
            let mut alive = stream.write_all(head).is_ok();
            while alive {
                std::thread::sleep(Duration::from_secs(1));
                alive = stream.write_all(b" ").is_ok();
            }
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    body.len() >= length.map_or(0, |length| length.trim().parse().unwrap_or(0))
}
