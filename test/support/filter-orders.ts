/** Orders made up for tests and benchmarks; the same ones every time. */
import type { JsonObject } from '../../src/model/lossless-json.ts';
import { OPERATION_KINDS, ORDER_TYPES } from '../../src/model/order-fields.ts';

const COUNTRIES = ['Switzerland', 'France', 'United Kingdom', 'Italy'];

/** An OrderDetailsData; `index` tells it from the others. */
export function madeOrder(index: number, operationCount: number): JsonObject {
  const operationDatas = Array.from({ length: operationCount }, (_, at) => {
    const number = index * 31 + at;
    return {
      operationId: 10228310000000 + number,
      operationNumber: at + 1,
      kind: OPERATION_KINDS[number % OPERATION_KINDS.length] as string,
      quantity: (number % 7) + 1,
      basePrice: 10000 + (number % 40) * 500,
      unitPrice: 10000,
      productId: 10228231100000 + (number % 40),
      product: `Arena Suite ${number % 40}`,
      productCode: `P${String(number % 40).padStart(4, '0')}`,
      isNominative: number % 2 === 1,
      vatRate: 7.7,
    };
  });
  return {
    orderId: 10000702652 + index,
    orderState: 'CLOSED',
    orderType: ORDER_TYPES[index % ORDER_TYPES.length] as string,
    creationDateTime: `2020-10-${String((index % 28) + 1).padStart(2, '0')}T10:09:27.503+00:00`,
    saleAmount: 40000 + index,
    country: COUNTRIES[index % COUNTRIES.length] as string,
    operationDatas,
  };
}
