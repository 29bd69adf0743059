// A certified OpenID Connect provider on a port of its own, and a player with a browser beside it.
//
// Prints {"issuer": ...} when it is ready. Then each line of standard input, {"nonce": ..., "login": ...}, is a player who
// logs in there by the authorization code flow, with PKCE; the answer is a line {"id_token": ...}. Ends with its input.

import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

import Provider from "oidc-provider";

// What it has to say goes where it does not mix with the answers.
console.info = console.warn = console.error;

const client = { id: "our-client-id", secret: randomBytes(16).toString("hex"), redirect: "http://127.0.0.1:1/callback" };
const server = createServer();
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{ client_id: client.id, client_secret: client.secret, redirect_uris: [client.redirect] }],
  cookies: { keys: [randomBytes(16).toString("hex")] },
  features: { devInteractions: { enabled: true } },
});
server.on("request", provider.callback());
console.log(JSON.stringify({ issuer }));

// Follows redirects as a browser does, with its cookies, until the one that leads back to us.
class Browser {
  cookies = new Map();

  async go(url, form) {
    for (;;) {
      const answer = await fetch(url, {
        method: form ? "POST" : "GET",
        body: form && new URLSearchParams(form),
        headers: { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
        redirect: "manual",
      });
      for (const cookie of answer.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
        this.cookies.set(name, value);
      }
      if (answer.status < 300 || answer.status >= 400) {
        return { url, page: await answer.text() };
      }
      url = new URL(answer.headers.get("location"), url).href;
      form = undefined;
      if (url.startsWith(client.redirect)) {
        return { url };
      }
    }
  }
}

async function logIn({ nonce, login }) {
  const verifier = randomBytes(32).toString("base64url");
  const browser = new Browser();
  const ask = new URLSearchParams({
    client_id: client.id,
    response_type: "code",
    redirect_uri: client.redirect,
    scope: "openid",
    nonce,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
  let at = await browser.go(`${issuer}/auth?${ask}`);
  at = await browser.go(at.url, { prompt: "login", login, password: "any" });
  at = await browser.go(at.url, { prompt: "consent" });
  const code = new URL(at.url).searchParams.get("code");
  const answer = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${btoa(`${client.id}:${client.secret}`)}` },
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code,
      redirect_uri: client.redirect,
      code_verifier: verifier,
    }),
  });
  const { id_token } = await answer.json();
  return { id_token };
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await logIn(JSON.parse(line))));
}
process.exit(0);
