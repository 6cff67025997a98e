//! The HTML page in a real browser, if there is one: nothing on the console, no request beside the
//! page itself, to whatever host, and at the width of a phone and of a desk, light and dark, nothing
//! too wide, too small, too pale, or one upon the other.
//!
//! The page is shown in a frame of the wanted width, served on loopback by this process. It is the
//! browser's proxy, too, for every host and for loopback, so that it notes whatever is asked for and
//! nothing leaves the machine. A planted page with every fault shows that faults are seen.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forkherd_bench::report::{html, saved};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde::Deserialize;

/// In CSS pixels: a phone, a desk.
const WIDTHS: [u32; 2] = [390, 1280];

/// A browser that takes longer is killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// The smallest letters, in CSS pixels.
const SIZE_MIN: f64 = 10.0;

/// The least contrast of letters to what is behind them: that of WCAG 2.1, level AA.
const CONTRAST_MIN: f64 = 4.5;

/// Hosts that the browser asks for its own sake whatever is shown; a page has nothing to fetch there.
const BROWSERS_OWN: [&str; 3] =
    ["accounts.google.com", "clients2.google.com", "update.googleapis.com"];

/// What the reader's system prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// As Blink's settings have it.
    fn number(self) -> u8 {
        match self {
            Self::Dark => 0,
            Self::Light => 1,
        }
    }
}

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for width in WIDTHS {
        for scheme in [Scheme::Light, Scheme::Dark] {
            let name = format!("the_page_is_sound_at_{width}_pixels_{}", scheme.word());
            let test = move |browser: &Path| is_sound(browser, width, scheme);
            trials.push(Trial::ignorable_test(name, move || with_browser(test)));
        }
    }
    trials.push(Trial::ignorable_test("planted_faults_are_seen", || with_browser(sees_faults)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs `test` with the browser in PATH, or says that there is none.
fn with_browser(test: impl Fn(&Path) -> Result<(), Failed>) -> Result<Completion, Failed> {
    let Some(browser) = browser() else {
        let _ = writeln!(std::io::stderr(), "skipped, because no chromium was found");
        return Ok(Completion::ignored_with("no chromium was found"));
    };
    test(&browser).map(|()| Completion::Completed)
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}

/// What the browser saw; lengths in CSS pixels.
#[derive(Debug, Deserialize)]
struct Seen {
    /// Drawings with something in them.
    drawings: usize,
    /// Drawings without.
    empty: usize,
    /// Width of the page beyond that of the frame.
    beyond: f64,
    /// Size of the smallest letters anywhere, as they are shown.
    smallest: f64,
    /// The least contrast of letters to what is behind them, and whose it is.
    contrast: f64,
    palest: String,
    /// Whether the page was told that dark is preferred.
    dark: bool,
    /// Writings that leave their drawing sideways.
    outside: Vec<String>,
    /// Writings that lie on one another.
    upon: Vec<String>,
    #[serde(skip)]
    console: Vec<String>,
    /// Paths on this host, and whole addresses elsewhere.
    #[serde(skip)]
    requests: BTreeSet<String>,
}

fn is_sound(browser: &Path, width: u32, scheme: Scheme) -> Result<(), Failed> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/result.json");
    let page = html::render(&[saved::load(&file).map_err(|error| format!("{error:#}"))?]);
    let seen = look(browser, width, scheme, &page)?;
    let faults = [
        (seen.drawings < 10, "drawings are missing"),
        (seen.empty > 0, "a drawing is empty"),
        (seen.beyond > 0.0, "the page is wider than its frame"),
        (seen.smallest < SIZE_MIN, "writing is too small"),
        (seen.contrast < CONTRAST_MIN, "writing is too pale"),
        (seen.dark != (scheme == Scheme::Dark), "it is not the scheme that was asked for"),
        (!seen.outside.is_empty(), "writing leaves its drawing"),
        (!seen.upon.is_empty(), "writings lie on one another"),
        (!seen.console.is_empty(), "the console is not empty"),
        (seen.requests.iter().any(|path| path != "/page"), "something else was asked for"),
    ];
    let found: Vec<_> = faults.iter().filter(|(found, _)| *found).map(|(_, what)| *what).collect();
    if found.is_empty() { Ok(()) } else { Err(format!("{found:?}: {seen:?}").into()) }
}

fn sees_faults(browser: &Path) -> Result<(), Failed> {
    let page = "<!doctype html><title>planted</title><link rel=icon href='data:,'>
        <img src=/planted><img src=http://planted.example/one><img src=https://planted.example/two>
        <p style='color:#999;background:#fff'>pale</p><script>console.error('planted')</script>
        <p style='width:2000px'>wide</p>
        <figure><svg viewBox='0 0 360 100' width=360>
        <text x=10 y=50 font-size=9>one</text><text x=12 y=50 font-size=9>other</text>
        <text x=355 y=20>out at the side</text></svg></figure>";
    let seen = look(browser, 390, Scheme::Light, page)?;
    let all = [
        (seen.drawings, seen.empty) == (0, 1),
        seen.beyond > 0.0,
        seen.smallest < SIZE_MIN,
        seen.contrast < CONTRAST_MIN && seen.palest == "pale",
        seen.outside == ["out at the side"],
        seen.upon == ["one / other"],
        seen.console.iter().any(|line| line.contains("planted")),
        seen.requests.contains("/planted"),
        seen.requests.contains("http://planted.example/one"),
        seen.requests.contains("planted.example:443"),
    ];
    if all == [true; 10] { Ok(()) } else { Err(format!("{all:?}: {seen:?}").into()) }
}

/// Opens `page` in a frame of `width` and measures it.
fn look(browser: &Path, width: u32, scheme: Scheme, page: &str) -> Result<Seen, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let requests = Arc::new(Mutex::new(BTreeSet::new()));
    let (noted, page) = (Arc::clone(&requests), page.to_owned());
    let frame = PROBE.replace("WIDTH", &width.to_string());
    // Ends with this process; a browser that went away asks for nothing more.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, address, &frame, &page, &noted);
        }
    });
    let profile = tempfile::tempdir()?;
    let (stdout, stderr) = (profile.path().join("stdout"), profile.path().join("stderr"));
    let mut child = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--disable-background-networking", "--no-first-run", "--window-size=1400,2000"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"])
        .args(["--disable-component-update", "--disable-sync", "--disable-default-apps"])
        .arg("--disable-features=NetworkTimeServiceQuerying,OptimizationHints,MediaRouter")
        .arg(format!("--blink-settings=preferredColorScheme={}", scheme.number()))
        .args([&format!("--proxy-server=http://{address}"), "--proxy-bypass-list=<-loopback>"])
        .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
        .arg(format!("http://{address}/frame"))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&stdout)?)
        .stderr(fs::File::create(&stderr)?)
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(format!("the browser took longer than {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (dom, log) = (fs::read_to_string(&stdout)?, fs::read_to_string(&stderr)?);
    let seen = dom.split("<pre id=\"seen\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let seen = seen.filter(|text| !text.is_empty());
    let text = seen.ok_or_else(|| format!("nothing was measured: {dom}\n{log}"))?;
    let mut seen: Seen = serde_json::from_str(&text.replace("&amp;", "&").replace("&lt;", "<"))?;
    seen.console = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    requests.lock().expect("no thread panics with it").clone_into(&mut seen.requests);
    Ok(seen)
}

/// Answers one request, as the server at `own` and as a proxy for everybody else, and notes what it
/// is for, but for the frame.
fn answer(
    mut stream: TcpStream,
    own: SocketAddr,
    frame: &str,
    page: &str,
    noted: &Mutex<BTreeSet<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    // `GET /path`, `GET http://host/path`, or for https `CONNECT host:443`.
    let asked = first.split(' ').nth(1).unwrap_or_default();
    let path = asked.strip_prefix(&format!("http://{own}")).unwrap_or(asked);
    let (status, body) = match path {
        "/frame" => ("200 OK", frame),
        "/page" => ("200 OK", page),
        _ => ("404 Not Found", ""),
    };
    let host = path.strip_prefix("http://").unwrap_or(path).split(['/', ':']).next();
    let is_browsers = host.is_some_and(|host| BROWSERS_OWN.contains(&host));
    if !path.is_empty() && path != "/frame" && !is_browsers {
        noted.lock().expect("no thread panics with it").insert(path.to_owned());
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Measures the page in a frame. Writings that touch by a pixel do not lie on one another.
const PROBE: &str = r#"<!doctype html><title>frame</title><link rel="icon" href="data:,">
<pre id="seen"></pre>
<iframe id="frame" src="/page" style="width:WIDTHpx;height:1000px;border:0"></iframe>
<script>
document.getElementById("frame").onload = event => {
  const page = event.target.contentDocument;
  const drawings = [...page.querySelectorAll("figure > svg")];
  const box = one => one.getBoundingClientRect();
  const full = drawings.filter(one => box(one).width > 300 && one.querySelector(".mark, .bar, .moment"));
  const texts = [...page.querySelectorAll("figure > svg text")];
  const outside = texts.filter(text => {
    const sheet = box(text.ownerSVGElement);
    return box(text).left < sheet.left - 1 || box(text).right > sheet.right + 1;
  });
  const upon = [];
  for (const drawing of drawings) {
    const inside = [...drawing.querySelectorAll("text")];
    inside.forEach((one, index) => inside.slice(index + 1).forEach(other => {
      const [a, b] = [box(one), box(other)];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) upon.push(one.textContent + " / " + other.textContent);
    }));
  }
  // As WCAG 2.1 has it.
  const rgb = color => color.match(/[\d.]+/g).map(Number);
  const light = color => {
    const linear = part => part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = rgb(color).slice(0, 3).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const style = one => event.target.contentWindow.getComputedStyle(one);
  const behind = one => {
    if (!one) return "rgb(255, 255, 255)";
    const color = style(one).backgroundColor;
    return rgb(color)[3] === 0 ? behind(one.parentElement) : color;
  };
  const writings = [...page.body.querySelectorAll("*")].filter(one =>
    !["SCRIPT", "STYLE", "title", "desc"].includes(one.tagName) && box(one).width > 1 &&
    [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
  const letters = writings.map(one => {
    const scale = one.ownerSVGElement ? one.getScreenCTM().a : 1;
    const [own, back] = [one.ownerSVGElement ? style(one).fill : style(one).color, behind(one)].map(light);
    return {
      text: one.textContent,
      size: parseFloat(style(one).fontSize) * scale,
      contrast: (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05),
    };
  });
  const palest = letters.reduce((one, other) => other.contrast < one.contrast ? other : one);
  document.getElementById("seen").textContent = JSON.stringify({
    drawings: full.length,
    empty: drawings.length - full.length,
    beyond: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    smallest: Math.min(...letters.map(one => one.size)),
    contrast: palest.contrast,
    palest: palest.text,
    dark: event.target.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches,
    outside: outside.map(text => text.textContent),
    upon,
  });
};
</script>"#;
