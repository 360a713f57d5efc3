// Starts a run by gRPC, watches it to its end and prints its text and cost.
//
//   node dist/main.js localhost:7100 "Why do blind juries judge better?" [MAX_NANO_USD]
//
// Standard output has the text, standard error the events. The exit code is 1 when the run was refused or has no text.
// DJP_API_KEY has the key where one is asked for; DJP_TLS_CA, DJP_TLS_CERT and DJP_TLS_KEY name the files of TLS.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Client, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { ErrorReason } from "./gen/djp/v1/common_pb.js";
import { RunService, RunState, type Run } from "./gen/djp/v1/run_pb.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

const ATTEMPTS = 5;
// Reasons that say nothing against the request. A budget's refusal is none of them.
const PASSING = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RATE_LIMITED"]);

/** What an error is decided by: the gateway's own reason, or UNAVAILABLE and the like when it did not answer. */
function reason(error: ConnectError): string {
  const told = error.findDetails(ErrorInfoSchema)[0]?.reason;
  if (told !== undefined) return told;
  // As a stream is called that was cut on its way; the gateway's own have an ErrorInfo.
  if (error.code === Code.Internal || error.code === Code.Aborted) return "UNAVAILABLE";
  return Code[error.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase().replace(/^CANCELED$/, "CANCELLED");
}

/** The way to the gateway: with a certificate on both sides where DJP_TLS_CA names an authority, and with the key. */
function transport(address: string): Transport {
  const { DJP_TLS_CA: ca, DJP_TLS_CERT: cert, DJP_TLS_KEY: key, DJP_API_KEY: secret } = process.env;
  const signed: Interceptor = (next) => (request) => {
    if (secret) request.header.set("authorization", `Bearer ${secret}`);
    return next(request);
  };
  if (!ca) return createGrpcTransport({ baseUrl: `http://${address}`, interceptors: [signed] });
  const files = { ca: readFileSync(ca), cert: readFileSync(cert ?? ""), key: readFileSync(key ?? "") };
  return createGrpcTransport({ baseUrl: `https://${address}`, interceptors: [signed], nodeOptions: files });
}

/** Does it again, for as long as it fails in a way that may pass. `before` tells how far it had come. */
async function persistently<T>(attempt: () => Promise<T>, progress: () => bigint): Promise<T> {
  for (let tries = 1; ; tries++) {
    const before = progress();
    try {
      return await attempt();
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      if (progress() > before) tries = 1;
      if (tries >= ATTEMPTS || !PASSING.has(reason(error))) throw error;
      // At least as long as the gateway asks for.
      const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
      await pause(Math.max(200 * tries, delay ? durationMs(delay) : 0));
    }
  }
}

/** Starts the run and follows its events to the terminal one, which carries the whole run. */
async function carryOut(runs: Client<typeof RunService>, task: string, budgetNanoUsd?: bigint): Promise<Run> {
  // Sent again with the same requestId, the call gets the first answer and starts no second run.
  const request = { requestId: randomUUID(), run: { task, budgetNanoUsd } };
  const { run } = await persistently(() => runs.startRun(request), () => 0n);

  // A stream that breaks is taken up after the last number that was seen.
  let seen = 0n;
  return persistently(
    async () => {
      for await (const { event } of runs.watchRun({ runId: run?.runId, afterSequence: seen })) {
        if (!event || event.sequence <= seen) continue; // a heartbeat has no number
        seen = event.sequence;
        console.error(`${event.sequence} ${event.event.case}`);
        if (event.event.case === "state" && event.event.value.run) return event.event.value.run;
      }
      throw new ConnectError("the stream ended early", Code.Unavailable);
    },
    () => seen,
  );
}

const [address, task, most] = process.argv.slice(2);
if (address === undefined || task === undefined || !/^\d*$/.test(most ?? "")) {
  console.error("usage: node dist/main.js ADDRESS TASK [MAX_NANO_USD]");
  process.exit(2);
}
try {
  const runs = createClient(RunService, transport(address));
  const run = await carryOut(runs, task, most ? BigInt(most) : undefined);
  const text = run.result?.text ?? "";
  if (text) console.log(text);
  console.error(`${RunState[run.state]}, cost: ${run.result?.totalNanoUsd ?? 0} nano-dollars`);
  if (run.error) console.error(`${ErrorReason[run.error.reason]}: ${run.error.message}`);
  process.exitCode = text ? 0 : 1;
} catch (thrown) {
  const error = ConnectError.from(thrown);
  console.error(`refused: ${reason(error)}: ${error.rawMessage}`);
  process.exitCode = 1;
}
