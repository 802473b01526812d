// Shows what the viewer sends. Pictures are asked for one by one, and only while in sight.
'use strict';

const RECONNECT_MS = 1500;
const cards = new Map();
const template = document.getElementById('card');
const list = document.getElementById('cards');
const connection = document.getElementById('connection');
let live = null;

class Card {
  constructor(topic, open) {
    this.topic = topic;
    this.open = open;
    this.onScreen = false;
    this.asked = false;
    this.node = template.content.firstElementChild.cloneNode(true);
    this.picture = this.part('img');
    this.part('h2').textContent = topic;
    this.node.setAttribute('aria-label', topic);
    this.node.dataset.topic = topic;
    this.part('.toggle').addEventListener('click', () => this.setOpen(!this.open));
    this.part('.enlarge').addEventListener('click', (event) => {
      const large = this.node.classList.toggle('large');
      event.target.setAttribute('aria-pressed', String(large));
      event.target.textContent = large ? 'Shrink' : 'Enlarge';
    });
    this.picture.addEventListener('load', () => this.onShown());
    this.picture.addEventListener('error', () => this.onShown());
    this.setOpen(open);
  }

  part(selector) {
    return this.node.querySelector(selector);
  }

  setOpen(open) {
    this.open = open;
    this.node.classList.toggle('closed', !open);
    const button = this.part('.toggle');
    button.textContent = open ? 'Hide' : 'Show';
    button.setAttribute('aria-expanded', String(open));
    tellWanted();
  }

  get wanted() {
    return this.open && this.onScreen && !document.hidden;
  }

  ask() {
    if (this.wanted && !this.asked && send({next: this.topic})) {
      this.asked = true;
    }
  }

  show(about, jpeg) {
    this.url = URL.createObjectURL(jpeg);
    this.picture.src = this.url;
    this.picture.hidden = false;
    const caption = JSON.stringify([about.legend, about.note]);
    if (caption !== this.caption) {
      this.caption = caption;
      this.describe(about);
    }
  }

  describe({legend, note}) {
    const names = legend.map(([, text]) => text).join(', ');
    this.picture.alt = `Live picture of ${this.topic}` + (names && `, showing ${names}`);
    this.part('.note').textContent = note;
    this.part('.legend').replaceChildren(...legend.map(([colour, text]) => {
      const item = document.createElement('li');
      const swatch = document.createElement('i');
      swatch.style.backgroundColor = colour;
      item.append(swatch, text);
      return item;
    }));
  }

  onShown() {
    URL.revokeObjectURL(this.url);
    this.asked = false;
    this.ask();
  }

  tell(state) {
    const sentence = this.part('.sentence');
    const text = state.sentence || (this.open ? '' : 'Hidden, so nothing is sent.');
    if (sentence.textContent !== text) {
      sentence.textContent = text;
    }
    sentence.hidden = !text;
    this.node.classList.toggle('stale', Boolean(state.sentence));
    if (state.rate_hz === undefined) {
      return;
    }
    this.part('.rate').textContent = `${state.rate_hz.toFixed(1)} Hz`;
    this.part('.skipped').textContent = `${state.skipped} of ${state.received}`;
    this.part('.image').textContent = state.size ? `${state.size} ${state.encoding}` : '–';
    if (state.p50_ms !== undefined) {
      this.part('.age').textContent =
        `${duration(state.p50_ms)} (p95 ${duration(state.p95_ms)})`;
    }
  }
}

function duration(ms) {
  const size = Math.abs(ms);
  if (size < 1000) return `${ms.toFixed(0)} ms`;
  if (size < 120e3) return `${(ms / 1e3).toFixed(1)} s`;
  if (size < 7200e3) return `${(ms / 60e3).toFixed(0)} min`;
  if (size < 172800e3) return `${(ms / 3600e3).toFixed(0)} h`;
  return `${(ms / 86400e3).toFixed(0)} d`;
}

function send(request) {
  const ready = live !== null && live.readyState === WebSocket.OPEN;
  if (ready) {
    live.send(JSON.stringify(request));
  }
  return ready;
}

function tellWanted() {
  const wanted = [...cards.values()].filter((card) => card.wanted);
  for (const card of cards.values()) {
    card.asked = card.asked && card.wanted;
  }
  send({want: wanted.map((card) => card.topic)});
  wanted.forEach((card) => card.ask());
}

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    cards.get(entry.target.dataset.topic).onScreen = entry.isIntersecting;
  }
  tellWanted();
});

function onState(state) {
  for (const told of state.cards) {
    if (!cards.has(told.topic)) {
      const card = new Card(told.topic, told.open);
      cards.set(told.topic, card);
      list.append(card.node);
      sight.observe(card.node);
    }
    cards.get(told.topic).tell(told);
  }
  connection.textContent = `live, ${state.graph}`;
  connection.classList.remove('lost');
  const empty = document.getElementById('empty');
  empty.hidden = cards.size > 0;
  empty.textContent = `No image topic on this graph (${state.graph}). Is the camera running, ` +
    'with the same ROS_DOMAIN_ID and discovery range? Topics that appear are shown at once.';
  const problem = document.getElementById('problem');
  problem.textContent = state.saving_failure;
  problem.hidden = !state.saving_failure;
  tellResults(state.results);
}

function tellResults(results) {
  const section = document.getElementById('results');
  section.hidden = results.length === 0;
  section.querySelector('dl').replaceChildren(...results.flatMap(({topic, sentence}) => {
    const name = document.createElement('dt');
    const fate = document.createElement('dd');
    name.textContent = topic;
    fate.textContent = sentence;
    return [name, fate];
  }));
}

function onPicture(bytes) {
  const end = bytes.indexOf(10);
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const jpeg = new Blob([bytes.subarray(end + 1)], {type: 'image/jpeg'});
  cards.get(about.topic).show(about, jpeg);
}

function connect() {
  live = new WebSocket(`${location.protocol.replace('http', 'ws')}//${location.host}/live`);
  live.binaryType = 'arraybuffer';
  live.onopen = tellWanted;
  live.onmessage = ({data}) => {
    if (typeof data === 'string') {
      onState(JSON.parse(data));
    } else {
      onPicture(new Uint8Array(data));
    }
  };
  live.onclose = () => {
    connection.textContent = 'connection lost, trying again …';
    connection.classList.add('lost');
    for (const card of cards.values()) {
      card.asked = false;
    }
    setTimeout(connect, RECONNECT_MS);
  };
}

document.addEventListener('visibilitychange', tellWanted);
connect();
