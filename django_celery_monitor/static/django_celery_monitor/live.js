// Refreshes a page of the Celery monitor in place. The server says where, by the
// element #celery-monitor-live, and answers 304 while nothing has changed.

const SWITCHED_OFF = "celery-monitor-live-off";
const MOST_FAILURES = 5;
const LONGEST_PAUSE = 60_000;
const TIMEOUT = 30_000;
// Pixels by which rows that stay in the list may move against each other.
const MOST_GROWTH = 100;

// What belongs to the user or to other scripts: the server does not know its state.
const LEFT_ALONE =
    "[data-celery-monitor-live=off], .actions, .celery-monitor-copied, input, select, textarea, script";
const EMPTY = "data-celery-monitor-empty";
const OWN_ATTRIBUTES = new Set(["aria-expanded", "aria-pressed", "hidden", "open", "style"]);

// Some themes of the admin have no #content.
const CONTENT = document.getElementById("content") ? "#content" : "#content-main";
const ROOTS = [CONTENT, ".breadcrumbs"];

const table = () => document.getElementById("result_list");

// The admin's own script looks for checkboxes once. This collection has those of
// rows that come later too.
function checkboxes() {
    const boxes = table().getElementsByClassName("action-select");
    boxes.forEach = Array.prototype.forEach;
    return boxes;
}

function keyOf(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
        return null;
    }
    if (node.dataset.celeryMonitorKey) {
        return node.dataset.celeryMonitorKey;
    }
    if (node.localName === "tr") {
        const box = node.querySelector("input.action-select");
        return box ? box.value : node.querySelector("a[href]")?.getAttribute("href");
    }
    if (node.localName === "li") {
        return node.id || node.querySelector("a[href]")?.getAttribute("href");
    }
    return node.matches(".celery-monitor-choices a") ? node.getAttribute("href") : node.id;
}

// The keys of the children that have one, each another one.
function keysOf(parent) {
    const keys = new Map();
    const times = new Map();
    for (const child of parent.children) {
        const key = keyOf(child);
        if (key) {
            const before = times.get(key) ?? 0;
            times.set(key, before + 1);
            keys.set(child, before ? `${key} ${before}` : key);
        }
    }
    return keys;
}

// Rows and buttons have classes that the scripts give them.
function isLike(node, other) {
    return (
        node.nodeName === other.nodeName &&
        (node.getAttribute("class") === other.getAttribute("class") ||
            ["button", "tr"].includes(node.localName))
    );
}

// A row that somebody has chosen or is reading stays, though it left the page.
function isHeld(node) {
    return (
        node.nodeType === Node.ELEMENT_NODE &&
        node.localName === "tr" &&
        (node.contains(document.activeElement) ||
            node.querySelector("input.action-select")?.checked)
    );
}

function update(node, fresh) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
        if (node.data !== fresh.data) {
            node.data = fresh.data;
        }
        return;
    }
    node.removeAttribute(EMPTY);
    if (node.matches(LEFT_ALONE) || node.isEqualNode(fresh)) {
        return;
    }
    const isOwn = (name) =>
        OWN_ATTRIBUTES.has(name) || (name === "class" && node.localName === "tr");
    for (const { name, value } of fresh.attributes) {
        if (!isOwn(name) && node.getAttribute(name) !== value) {
            node.setAttribute(name, value);
        }
    }
    for (const { name } of [...node.attributes]) {
        if (!isOwn(name) && !fresh.hasAttribute(name)) {
            node.removeAttribute(name);
        }
    }
    updateChildren(node, fresh);
}

function updateChildren(parent, freshParent) {
    const keys = keysOf(parent);
    const freshKeys = keysOf(freshParent);
    const wanted = new Set(freshKeys.values());
    const known = new Map();
    const held = new Set();
    for (const child of [...parent.children]) {
        const key = keys.get(child);
        if (wanted.has(key)) {
            known.set(key, child);
        } else if (isHeld(child) || child.matches("[data-celery-monitor-live=off]")) {
            held.add(child);
        } else if (key) {
            child.remove();
        }
    }
    let next = parent.firstChild;
    for (const fresh of [...freshParent.childNodes]) {
        while (held.has(next)) {
            next = next.nextSibling;
        }
        const key = freshKeys.get(fresh);
        const match = key ? known.get(key) : findMatch(fresh, next, keys);
        if (!match) {
            const added = document.importNode(fresh, true);
            if (added.localName === "tr") {
                added.classList.add("celery-monitor-new");
            }
            parent.insertBefore(added, next);
            continue;
        }
        // What was before it is gone. If it were moved, it would lose how it is scrolled.
        while (!key && next !== match) {
            const left = next;
            next = next.nextSibling;
            if (!held.has(left) && !keys.has(left)) {
                remove(left);
            }
        }
        if (match === next) {
            next = next.nextSibling;
        } else {
            parent.insertBefore(match, next);
        }
        update(match, fresh);
    }
    while (next) {
        const left = next;
        next = next.nextSibling;
        if (!held.has(left)) {
            remove(left);
        }
    }
}

// The next element like a fresh one, which may have lost others before it; or the next
// node of any other type.
function findMatch(fresh, next, keys) {
    let candidate = next;
    while (candidate && fresh.nodeType === Node.ELEMENT_NODE) {
        if (isLike(candidate, fresh) && !keys.has(candidate)) {
            return candidate;
        }
        candidate = candidate.nextSibling;
    }
    return candidate && candidate.nodeType === fresh.nodeType ? candidate : null;
}

// The admin's script knows the list by its table and its actions. So those of an empty
// list are hidden until there are rows again.
function remove(node) {
    const isElement = node.nodeType === Node.ELEMENT_NODE;
    if (!isElement || !(node.matches(".actions") || node.querySelector("#result_list"))) {
        node.remove();
        return;
    }
    const rows = [...document.querySelectorAll("#result_list tbody tr")];
    rows.filter((row) => !isHeld(row)).forEach((row) => row.remove());
    node.toggleAttribute(EMPTY, !rows.some(isHeld));
}

function rowKeys(page) {
    return [...page.querySelectorAll("#result_list tbody tr")].map(keyOf);
}

// The form of the actions is the admin's script's, but for what it counts.
function updateActions(page, hadTable) {
    const counters = page.querySelectorAll(".action-counter");
    document.querySelectorAll(".action-counter").forEach((counter, index) => {
        if (counters[index]) {
            counter.dataset.actionsIcnt = counters[index].dataset.actionsIcnt;
        }
    });
    for (const selector of [".actions .all", ".actions .question a"]) {
        const fresh = page.querySelectorAll(selector);
        document.querySelectorAll(selector).forEach((node, index) => {
            node.textContent = fresh[index]?.textContent ?? node.textContent;
        });
    }
    if (!window.Actions || !table() || !document.querySelector(".action-counter")) {
        return;
    }
    if (!hadTable) {
        window.Actions(checkboxes());
    }
    // On this event it counts anew.
    window.dispatchEvent(new Event("pageshow"));
}

// Where the rows are that somebody who has scrolled down is looking at. Not every
// browser keeps them there by itself, and those that do are told not to.
function placesOf() {
    if (window.scrollY === 0) {
        return [];
    }
    return [...document.querySelectorAll("#result_list tbody tr, #content-main fieldset")]
        .map((node) => [node, node.getBoundingClientRect()])
        .filter(([, { top, bottom }]) => bottom > 0 && top < window.innerHeight)
        .map(([node, { top, bottom }]) => {
            const distance = Math.abs(top + bottom - window.innerHeight);
            return { node, top, distance };
        });
}

// Rows may have gone elsewhere in the list, or become higher. So what is in the middle
// stays where it is, if it has moved about as far as most of them.
function returnTo(places) {
    const moved = places
        .filter(({ node }) => node.isConnected)
        .map(({ node, top, distance }) => {
            return { shift: node.getBoundingClientRect().top - top, distance };
        })
        .sort((one, other) => one.shift - other.shift);
    if (!moved.length) {
        return;
    }
    const most = moved[Math.floor(moved.length / 2)].shift;
    const [nearest] = moved
        .filter(({ shift }) => Math.abs(shift - most) < MOST_GROWTH)
        .sort((one, other) => one.distance - other.distance);
    window.scrollBy(0, nearest.shift);
}

// Makes the page like the fresh one; returns what there is to say about it.
function refresh(page, texts) {
    const hadTable = Boolean(table());
    const before = new Set(rowKeys(document));
    const state = () => document.querySelector(`${CONTENT} .celery-monitor-state`)?.textContent;
    const stateBefore = state();
    const focused = document.activeElement;
    const places = placesOf();
    document.querySelectorAll(".celery-monitor-new").forEach((row) => {
        row.classList.remove("celery-monitor-new");
    });
    for (const root of ROOTS) {
        const [node, fresh] = [document.querySelector(root), page.querySelector(root)];
        if (node && fresh) {
            update(node, fresh);
        }
    }
    document.title = page.title;
    // Another one since somebody has logged in again.
    const token = page.querySelector("input[name=csrfmiddlewaretoken]")?.value;
    if (token) {
        document.querySelectorAll("input[name=csrfmiddlewaretoken]").forEach((input) => {
            input.value = token;
        });
    }
    updateActions(page, hadTable);
    if (focused !== document.activeElement && focused?.isConnected) {
        focused.focus({ preventScroll: true });
    }
    returnTo(places);
    if (!page.getElementById("result_list") && !hadTable) {
        return state() === stateBefore ? "" : (state() ?? "");
    }
    const added = rowKeys(page).filter((key) => !before.has(key)).length;
    // The time of the server, as in the rows.
    const now = page.getElementById("celery-monitor-live")?.dataset.now;
    return added ? `${texts.new} ${added} (${now})` : "";
}

// Which of the admin's pages it is. Themes have classes of their own beside these.
function kindOf(page) {
    return [...page.body.classList].filter((name) => /^(app|model)-/.test(name)).join(" ");
}

function isBusy() {
    return (
        [...document.querySelectorAll("#changelist-form select[name=action]")].some(
            (select) => select.value,
        ) ||
        document.querySelector(".actions .select-across")?.value === "1" ||
        document.querySelector("dialog[open]") !== null
    );
}

function start(region) {
    const button = region.querySelector("button");
    const status = region.querySelector("[role=status]");
    const texts = region.dataset;
    const interval = Number(texts.interval) * 1000;
    let etag = texts.etag;
    let failures = 0;
    let timer = null;
    let asking = null;
    let isOn = true;

    function say(text) {
        if (status.textContent !== text) {
            status.textContent = text;
        }
    }

    function wait() {
        clearTimeout(timer);
        timer = null;
        if (isOn && !document.hidden) {
            const pause = Math.min(interval * 2 ** failures, Math.max(LONGEST_PAUSE, interval));
            timer = setTimeout(ask, pause);
        }
    }

    function turn(on) {
        isOn = on;
        failures = 0;
        button.setAttribute("aria-pressed", String(on));
        clearTimeout(timer);
        asking?.abort();
    }

    function stop(why) {
        turn(false);
        say(why);
    }

    function fail() {
        failures += 1;
        if (failures >= MOST_FAILURES) {
            stop(texts.stopped);
        } else {
            say(texts.retry);
        }
    }

    function take(text) {
        const page = new DOMParser().parseFromString(text, "text/html");
        if (kindOf(page) !== kindOf(document)) {
            // A page to log in on, or one that says that nothing can be shown now.
            stop(texts.ended);
            return;
        }
        const fresh = page.getElementById(region.id);
        const news = refresh(page, texts);
        if (news || failures) {
            say(news);
        }
        failures = 0;
        if (fresh) {
            etag = fresh.dataset.etag;
        } else {
            // A task that has ended does not change any more.
            turn(false);
            button.hidden = true;
            // The page itself says how; this says it to those who hear the page.
            region.classList.add("visually-hidden");
        }
    }

    async function ask() {
        if (isBusy()) {
            say(texts.paused);
            wait();
            return;
        }
        if (status.textContent === texts.paused) {
            say("");
        }
        const request = new AbortController();
        asking?.abort();
        asking = request;
        const limit = setTimeout(() => request.abort(), TIMEOUT);
        try {
            const response = await fetch(window.location.href, {
                cache: "no-store",
                headers: { "If-None-Match": etag, "X-Celery-Monitor-Live": "1" },
                redirect: "manual",
                signal: request.signal,
            });
            if (response.ok) {
                const text = await response.text();
                // Meanwhile an action may have been chosen, or the switch used.
                if (isOn && asking === request && !isBusy()) {
                    take(text);
                }
            } else if (response.status === 304) {
                if (failures) {
                    say("");
                }
                failures = 0;
            } else if (response.status >= 500 || response.status === 429) {
                fail();
            } else {
                // Logged out, no longer allowed to see it, or it is gone.
                stop(texts.ended);
            }
        } catch (error) {
            if (isOn && asking === request) {
                fail();
            }
        } finally {
            clearTimeout(limit);
        }
        if (asking === request) {
            wait();
        }
    }

    button.addEventListener("click", () => {
        turn(!isOn);
        say("");
        remember(!isOn);
        if (isOn) {
            // Much may have happened since, such as another session.
            etag = "";
            ask();
        }
    });
    document.addEventListener("visibilitychange", () => {
        clearTimeout(timer);
        if (isOn && !document.hidden) {
            ask();
        }
    });
    turn(!isRemembered());
    region.hidden = false;
    document.documentElement.classList.add("celery-monitor-refreshed");
    wait();
}

// Storage may be forbidden; then the switch is forgotten.
function remember(off) {
    try {
        if (off) {
            localStorage.setItem(SWITCHED_OFF, "1");
        } else {
            localStorage.removeItem(SWITCHED_OFF);
        }
    } catch {
        return;
    }
}

function isRemembered() {
    try {
        return localStorage.getItem(SWITCHED_OFF) !== null;
    } catch {
        return false;
    }
}

const region = document.getElementById("celery-monitor-live");
if (region) {
    // A module runs before the admin's script is ready to use Actions.
    const own = window.Actions;
    if (own) {
        window.Actions = (_boxes, options) => own(checkboxes(), options);
    }
    start(region);
}
