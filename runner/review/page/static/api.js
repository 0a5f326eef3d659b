// Requests to the page's own server. All paths are relative: the token stands in the address of the page.

export class Failed extends Error {
  // status 0: no answer came.
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

const SILENT =
  "The server of this page does not answer. If it was stopped, start `tutelage review` again and open the address " +
  "that it prints: every answer that was saved is kept.";

export async function ask(path, body, keepalive = false) {
  let response, answer;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      redirect: "error",
      keepalive,
      signal: keepalive ? undefined : AbortSignal.timeout(60_000),
    });
    answer = await response.json();
  } catch {
    throw new Failed(SILENT, 0);
  }
  if (!response.ok) throw new Failed(answer.error ?? SILENT, response.status);
  return answer;
}
