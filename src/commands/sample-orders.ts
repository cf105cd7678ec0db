/** Made-up orders of a made-up venue, for the demo and for tests: the same seed gives the same orders. */
import type { JsonObject } from '../model/lossless-json.ts';

const PRODUCTS = [
  { code: 'ASTDN', name: 'Arena Suite Dining', kind: 'HOSPITALITY', price: 210_000 },
  { code: 'STALLS', name: 'Evening concert, stalls', kind: 'SINGLE_ENTRY', price: 68_000 },
  { code: 'BALC', name: 'Evening concert, balcony', kind: 'SINGLE_ENTRY', price: 42_000 },
  { code: 'SEASON', name: 'Season ticket', kind: 'SEASONTICKET', price: 390_000 },
  { code: 'MUSPASS', name: 'Museum pass', kind: 'PASS', price: 25_000 },
  { code: 'PARK', name: 'Car park', kind: 'SERVICE', price: 8_000 },
  { code: 'PROG', name: 'Programme book', kind: 'GOODS', price: 12_500 },
] as const;
const CONTINGENTS = ['General', 'Members', 'Sponsors'] as const;
const FIRST_ORDER_ID = 10_000_702_652;
const FIRST_OPERATION_ID = 10_228_310_724_422;

/** @param number 0, 1, 2 …: which order of the series */
export function sampleOrder(number: number, createdAt: Date, orderState = 'CLOSED'): JsonObject {
  const random = seeded(number + 1);
  const operations = Array.from({ length: 1 + Math.floor(random() * 3) }, (_, index) =>
    operation(FIRST_OPERATION_ID + number * 10 + index, random),
  );
  const isRefund = random() < 0.08;
  const saleAmount = operations.reduce((sum, { totalAmount }) => sum + (totalAmount as number), 0);
  const movements = operations.flatMap((one) => movementsOf(one));
  return {
    orderId: FIRST_ORDER_ID + number,
    orderState,
    orderType: isRefund ? 'REFUND_CLIENT' : 'SALE',
    origin: random() < 0.7 ? 'INTERNET' : 'BOX_OFFICE',
    creationDateTime: createdAt.toISOString().replace('Z', '+00:00'),
    catalogCurrency: 'EUR',
    saleAmount: isRefund ? -saleAmount : saleAmount,
    contactNumber: String(10_000 + Math.floor(random() * 5_000)),
    operationDatas: operations,
    movementDatas: movements,
    ticketDatas: movements.map(({ movementId }) => ({
      ticketId: (movementId as number) + 500_000_000,
      movementId: movementId as number,
      barcode: String(100_000_000_000 + Math.floor(random() * 800_000_000_000)),
      ticketState: 'VALID',
    })),
  };
}

function operation(operationId: number, random: () => number): JsonObject {
  const product = PRODUCTS[Math.floor(random() * PRODUCTS.length)] ?? PRODUCTS[0];
  const quantity = 1 + Math.floor(random() * 4);
  return {
    operationId,
    kind: product.kind,
    quantity,
    basePrice: product.price,
    unitPrice: product.price,
    totalAmount: product.price * quantity,
    productId: 10_228_231_108_335 + PRODUCTS.indexOf(product),
    product: product.name,
    productCode: product.code,
    season: '2026',
    contingent: CONTINGENTS[Math.floor(random() * CONTINGENTS.length)] ?? 'General',
    isNominative: product.kind === 'SEASONTICKET' || product.kind === 'PASS',
  };
}

function movementsOf({ operationId, quantity, contingent }: JsonObject): JsonObject[] {
  return Array.from({ length: quantity as number }, (_, index) => ({
    movementId: (operationId as number) * 10 + index,
    operationId: operationId as number,
    type: 'ISSUE',
    contingent: contingent as string,
    transferable: true,
  }));
}

/** Mulberry32: small, and good enough for samples. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
