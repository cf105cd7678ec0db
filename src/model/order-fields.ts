/**
 * The fields that an order is known to have (contract, section 4.1): for the warnings of filters, the sample generator
 * and the docs. An order may hold any others; nothing is ever refused because it is not listed here.
 */

/** `amount`: thousandths of the currency unit. `any`: what it holds is up to the order's owner. */
export type FieldType =
  | 'id'
  | 'text'
  | 'integer'
  | 'decimal'
  | 'amount'
  | 'boolean'
  | 'date-time'
  | 'list'
  | 'any';
export type Fields = Readonly<Record<string, FieldType>>;

/** The one field of an OrderDetailResult that holds the order; the others tell how the reading went. */
export const ORDER_ROOT = 'orderDetailsData';

export const ORDER_FIELDS = {
  orderId: 'id',
  orderState: 'text',
  orderType: 'text',
  orderSecretId: 'text',
  origin: 'text',
  creationDateTime: 'date-time',
  referenceDate: 'date-time',
  expirationDate: 'date-time',
  saleAmount: 'amount',
  preSaleAmount: 'amount',
  reservationAmount: 'amount',
  optionAmount: 'amount',
  waitingAccountBalanceAmount: 'amount',
  catalogCurrency: 'text',
  mainOperationId: 'id',
  contactNumber: 'text',
  operationDatas: 'list',
  movementDatas: 'list',
  ticketDatas: 'list',
} as const satisfies Fields;

export const OPERATION_FIELDS = {
  operationId: 'id',
  operationNumber: 'integer',
  kind: 'text',
  type: 'text',
  quantity: 'integer',
  basePrice: 'amount',
  unitPrice: 'amount',
  totalAmount: 'amount',
  productId: 'id',
  product: 'text',
  productCode: 'text',
  productFamilyType: 'text',
  productFamilySubType: 'text',
  season: 'text',
  itemId: 'id',
  performanceId: 'id',
  performance: 'text',
  eventId: 'id',
  audienceCatId: 'id',
  audienceSubCategory: 'text',
  audienceSubCategoryId: 'id',
  contingent: 'text',
  contingentId: 'id',
  fileId: 'id',
  isNominative: 'boolean',
  exchangeable: 'boolean',
  numbered: 'boolean',
  vatRate: 'decimal',
  vatCountryCode: 'text',
} as const satisfies Fields;

export const MOVEMENT_FIELDS = {
  movementId: 'id',
  operationId: 'id',
  type: 'text',
  contingent: 'text',
  contingentId: 'id',
  instanceNumber: 'integer',
  startValidityDate: 'date-time',
  endValidityDate: 'date-time',
  transferable: 'boolean',
  resumed: 'boolean',
  seat: 'any',
} as const satisfies Fields;

export const TICKET_FIELDS = {
  ticketId: 'id',
  movementId: 'id',
  barcode: 'text',
  ticketState: 'text',
} as const satisfies Fields;

/** The lists of an order: what one element is called, and what it holds. */
export const ORDER_LISTS: ReadonlyMap<string, { readonly noun: string; readonly fields: Fields }> = new Map([
  ['operationDatas', { noun: 'operation', fields: OPERATION_FIELDS }],
  ['movementDatas', { noun: 'movement', fields: MOVEMENT_FIELDS }],
  ['ticketDatas', { noun: 'ticket', fields: TICKET_FIELDS }],
]);

export const ORDER_TYPES = [
  'SALE',
  'REFUND_CLIENT',
  'REFUND_ORGANIZATION',
  'EXCHANGE_ORGANIZATION',
  'EXCHANGE_CLIENT',
  'RESERVATION',
  'RENEWAL',
  'OPTION',
  'RESERVATION_FREEING',
  'OPTION_FREEING',
  'ST_TRANSFER',
] as const;

export const OPERATION_KINDS = [
  'SINGLE_ENTRY',
  'SEASONTICKET',
  'PASS',
  'PACKAGE',
  'MEMBERSHIP',
  'SERVICE',
  'GOODS',
  'TRANSPORT',
  'HOSPITALITY',
] as const;

export type KnownField = { readonly name: string; readonly type: FieldType };

/** By the name in lower case. A name that stands in several lists has the same type in all. */
const KNOWN_FIELDS: ReadonlyMap<string, KnownField> = new Map(
  [TICKET_FIELDS, MOVEMENT_FIELDS, OPERATION_FIELDS, ORDER_FIELDS]
    .flatMap((fields: Fields) => Object.entries(fields))
    .map(([name, type]) => [name.toLowerCase(), { name, type }]),
);

/** The field in its usual spelling, whatever the case it is asked in; undefined when no such field is known. */
export function knownField(name: string): KnownField | undefined {
  return KNOWN_FIELDS.get(name.toLowerCase());
}
