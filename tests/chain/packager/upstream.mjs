// Reads ranges of objects by HTTP/1.1, on connections that are kept. What is returned is whole, and of one version.

import http from 'node:http';

/** Milliseconds in which a connection must be made, and each piece of a response must arrive. */
const TIMEOUT = 75_000;
/** No range is longer: what a segment needs must fit in memory. */
const LONGEST = 64 * 2 ** 20;

/** The object cannot be read now, or not as it should be. `status`: what the client gets. */
export class UpstreamError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The object is no longer the one that was asked for. */
export class ObjectChanged extends UpstreamError {
  constructor(message) {
    super(502, message);
  }
}

export class Upstream {
  /** `base`: the URL of the bucket, as a cache or httpd serves it. `record`: called with each read. */
  constructor(base, record = () => {}) {
    this.base = new URL(base.endsWith('/') ? base : `${base}/`);
    if (this.base.protocol !== 'http:') throw new Error('the base URL must begin with http://');
    this.record = record;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 64, timeout: TIMEOUT });
  }

  close() {
    this.agent.destroy();
  }

  /**
   * Read bytes `first` to `last` of an object (both included). If the object is shorter: its bytes from `first`.
   *
   * With `etag` the bytes are of this version, or the result is an ObjectChanged error. With `unlessEtag` the result is
   * null if the object still has it. Else returns { data, etag, total }.
   */
  async read(key, first, last, { etag = '', unlessEtag = '' } = {}) {
    if (last - first + 1 > LONGEST) throw new UpstreamError(502, `a range of ${last - first + 1} bytes is too long`);
    const headers = { Range: `bytes=${first}-${last}`, Accept: '*/*' };
    if (etag) headers['If-Match'] = etag;
    if (unlessEtag) headers['If-None-Match'] = unlessEtag;
    const { response, close, received } = await this.#request(key, headers);
    try {
      const { statusCode } = response;
      if (statusCode === 304 && unlessEtag) return null;
      // A server that changes If-Match to a range of the new object is found by the ETag below.
      if (etag && (statusCode === 412 || statusCode === 200)) throw new ObjectChanged(`${statusCode}, not 206`);
      if (statusCode === 404) throw new UpstreamError(404, 'not found');
      if (statusCode !== 206) throw new UpstreamError(statusCode === 504 ? 504 : 502, `${statusCode}, not 206`);
      const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers['content-range'] ?? '');
      const [from, to, total] = (range ?? []).slice(1).map(Number);
      if (!range || from !== first || to !== Math.min(last, total - 1)) {
        throw new UpstreamError(502, `unexpected Content-Range ${response.headers['content-range']}`);
      }
      const version = response.headers.etag ?? '';
      if (!version || version.startsWith('W/')) throw new UpstreamError(502, 'no strong ETag');
      if (etag && version !== etag) throw new ObjectChanged(`ETag ${version}, not ${etag}`);
      const data = await received(to - from + 1);
      return { data, etag: version, total };
    } finally {
      close();
    }
  }

  #request(key, headers) {
    return new Promise((resolve, reject) => {
      const path = this.base.pathname + key.split('/').map(encodeURIComponent).join('/');
      const entry = { key, range: headers.Range, status: 0, bytes: 0 };
      let recorded = false;
      const record = () => {
        if (!recorded) this.record(entry);
        recorded = true;
      };
      const start = () => {
        const request = http.get({ host: this.base.hostname, port: this.base.port || 80, path, headers, agent: this.agent });
        request.setTimeout(TIMEOUT, () => request.destroy(new UpstreamError(504, 'timeout')));
        request.on('error', (error) => {
          // The server closed a kept connection at the moment at which it was used again.
          if (request.reusedSocket && error.code === 'ECONNRESET' && !entry.status) return start();
          record();
          return reject(error instanceof UpstreamError ? error : new UpstreamError(502, error.code ?? error.message));
        });
        request.on('response', (response) => {
          entry.status = response.statusCode;
          // A body that is not wanted, or did not end, ends with its connection.
          const close = () => {
            record();
            if (response.complete) return;
            if (response.statusCode === 304 || response.headers['content-length'] === '0') response.resume();
            else request.destroy();
          };
          const received = (length) => collected(response, length, entry);
          resolve({ response, close, received });
        });
      };
      start();
    });
  }
}

/** The body of a response. Exactly this long, or an error. */
async function collected(response, length, entry) {
  const parts = [];
  try {
    for await (const part of response) {
      entry.bytes += part.length;
      if (entry.bytes > length) throw new UpstreamError(502, 'the body is too long');
      parts.push(part);
    }
  } catch (error) {
    throw error instanceof UpstreamError ? error : new UpstreamError(502, `the body is truncated (${error.code})`);
  }
  if (entry.bytes !== length || !response.complete) throw new UpstreamError(502, 'the body is truncated');
  return Buffer.concat(parts, length);
}
