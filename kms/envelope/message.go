package envelope

import "encoding/binary"

// Layout of an encrypted message.
const (
	// messageMagic begins every encrypted message. Its third byte is no format of a blob.
	messageMagic = "KHM"
	// messageVersion is the only version there is.
	messageVersion = 1

	// MessagePrefixSize is the length of magic and version, in bytes.
	MessagePrefixSize = len(messageMagic) + 1
	// MessageKeySize is the length of the data key of a message, in bytes: the AES-256-GCM key.
	MessageKeySize = 32
	// MessageNonceSize is the length of the nonce that begins the sealed part, in bytes.
	MessageNonceSize = 12
	// MessageOverheadMax is the most that a message is longer than its plaintext, in bytes.
	MessageOverheadMax = MessagePrefixSize + 2 + DerivedOverhead + MessageKeySize + MessageNonceSize + TagSize
	// MaxMessagesPerKey is how many messages one data key may seal, as their nonces are 96 random bits: the chance
	// that two are the same is 2^-57 then. NIST SP 800-38D, section 8.3, asks for at most 2^-32.
	MaxMessagesPerKey = 1 << 20
)

// Message is an encrypted message in its parts. As returned by [ParseMessage] they are views into the parsed bytes.
type Message struct {
	// WrappedKey is a blob of kind [KindWrappedKey] that holds [MessageKeySize] bytes.
	WrappedKey []byte
	// Sealed is nonce (12), ciphertext and tag (16).
	Sealed []byte
}

// MessagePrefix returns magic and version, the first 4 bytes of every message. They are the additional authenticated
// data under which a message's data key is wrapped and rewrapped, so that a wrapped key of another use is none of a
// message.
func MessagePrefix() [MessagePrefixSize]byte {
	var p [MessagePrefixSize]byte
	n := copy(p[:], messageMagic)
	p[n] = messageVersion
	return p
}

// AppendMessageAAD appends what the AEAD of a message authenticates: the prefix, then the caller's additional data of
// any length.
func AppendMessageAAD(dst, additionalData []byte) []byte {
	prefix := MessagePrefix()
	return append(append(dst, prefix[:]...), additionalData...)
}

// ParseMessage takes a message apart. Layout:
//
//	magic "KHM" (3) | version 1 (1) | length of the wrapped key, 16-bit big endian (2) | wrapped key |
//	nonce (12) | ciphertext | tag (16)
//
// Errors wrap [ErrMalformed].
func ParseMessage(p []byte) (Message, error) {
	if len(p) < len(messageMagic) || string(p[:len(messageMagic)]) != messageMagic {
		return Message{}, malformed("not a Keyholt message: it does not begin with %q", messageMagic)
	}
	if len(p) < MessagePrefixSize+2 {
		return Message{}, malformed("the message ends within its header, after %d bytes", len(p))
	}
	if version := p[len(messageMagic)]; version != messageVersion {
		return Message{}, malformed("message version %d, want %d", version, messageVersion)
	}
	size := int(binary.BigEndian.Uint16(p[MessagePrefixSize:]))
	rest := p[MessagePrefixSize+2:]
	if len(rest) < size+MessageNonceSize+TagSize {
		return Message{}, malformed("the message ends too early, after %d bytes", len(p))
	}
	m := Message{WrappedKey: rest[:size:size], Sealed: rest[size:]}
	if err := checkMessageKey(m.WrappedKey); err != nil {
		return Message{}, err
	}
	return m, nil
}

// AppendMessageHeader appends what precedes the sealed part of a message. It refuses, with an error that wraps
// [ErrMalformed], a wrapped key that [ParseMessage] would not read back.
func AppendMessageHeader(dst, wrappedKey []byte) ([]byte, error) {
	if err := checkMessageKey(wrappedKey); err != nil {
		return nil, err
	}
	prefix := MessagePrefix()
	dst = append(dst, prefix[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(wrappedKey)))
	return append(dst, wrappedKey...), nil
}

func checkMessageKey(wrapped []byte) error {
	b, err := Parse(wrapped)
	if err != nil {
		return err
	}
	if b.Kind != KindWrappedKey || b.PlaintextSize() != MessageKeySize {
		return malformed("a message needs a wrapped data key of %d bytes, not %d bytes of kind %q",
			MessageKeySize, b.PlaintextSize(), b.Kind)
	}
	return nil
}
