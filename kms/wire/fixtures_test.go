package wire

import (
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Names and values that the tests share.

func must[T any](value T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // the tests' own constants
	}
	return value
}

func aNamespace() kms.NamespaceName { return must(kms.NewNamespaceName("shop")) }
func aKey() kms.KeyName             { return must(kms.NewKeyName(aNamespace(), "orders")) }
func anotherKey() kms.KeyName       { return must(kms.NewKeyName(aNamespace(), "carts")) }

func aBinding() kms.Binding {
	return kms.Binding{Context: map[string]string{"tenant": "7", "table": "cards"}, AAD: []byte("row 12")}
}

func aTime(second int64) time.Time { return time.Unix(1_700_000_000+second, 123_456_789).UTC() }

func aStoredNamespace() *kms.Namespace {
	return &kms.Namespace{Name: aNamespace(), CreateTime: aTime(0), Revision: 7}
}

func aKeyInfo() *kms.KeyInfo {
	return &kms.KeyInfo{
		Key: kms.Key{
			Name:           aKey(),
			Purpose:        kms.PurposeEncryptDecrypt,
			Algorithm:      kms.AlgorithmAES256,
			Profile:        kms.ProfileStrict,
			Labels:         map[string]string{"team": "billing"},
			RotationPeriod: 90 * 24 * time.Hour,
			Primary:        2,
			CreateTime:     aTime(1),
			Revision:       8,
		},
		PrimaryState: kms.StateDisabled,
		VersionCount: 2,
		RotateTime:   aTime(2),
	}
}

func aVersionInfo() *kms.VersionInfo {
	return &kms.VersionInfo{
		Version: kms.Version{
			Name:           aKey().Version(2),
			UID:            hsm.UID{1, 2, 3, 0xff},
			State:          kms.StateDestroyScheduled,
			CreateTime:     aTime(3),
			StateTime:      aTime(4),
			StatePrincipal: "unix:1000",
			StateReason:    "laptop stolen",
			DestroyTime:    aTime(7),
			RestoreTo:      kms.StateRevoked,
			FirstUse:       aTime(5),
			Revision:       1 << 60,
			Attributes:     someAttributes(hsm.ReportedTrue, []string{"CKM_ECDSA"}),
			Imported:       true,
		},
		Algorithm:   kms.AlgorithmECP521SHA512,
		Primary:     true,
		Unavailable: "the object is missing",
		Host:        aHostReport(),
		Usage: []kms.UsageCount{
			{UID: hsm.UID{1, 2, 3, 0xff}, Action: kms.ActionDecrypt, Count: 1 << 63, LastUsed: aTime(6)},
			{UID: hsm.UID{1, 2, 3, 0xff}, Action: kms.ActionEncrypt, Count: 7, LastUsed: aTime(5)},
		},
	}
}

func someAttributes(r hsm.Report, mechanisms []string) kms.ObjectAttributes {
	return kms.ObjectAttributes{Attributes: hsm.Attributes{
		Local: r, Sensitive: r, AlwaysSensitive: r, Extractable: r, NeverExtractable: r, Modifiable: r, Copyable: r, Private: r,
		KeyGenMechanism: "CKM_EC_KEY_PAIR_GEN",
	}, Mechanisms: mechanisms}
}

func aHostReport() *kms.HostReport {
	return &kms.HostReport{
		Attributes: someAttributes(hsm.ReportedFalse, []string{}), Usable: true, Problem: "it does not answer",
		Module: "/usr/lib/softhsm/libsofthsm2.so", Library: "SoftHSM 2.6", Label: "token", Serial: "0123", Manufacturer: "m",
		Model: "v2", Firmware: "2.6",
	}
}

func aStateChange() *kms.StateChange {
	return &kms.StateChange{Version: aVersionInfo(), Switch: kms.SwitchUnsupported, Spread: aSpread()}
}

func aSpread() kms.Spread {
	return kms.Spread{
		Revision: 1 << 62, Acknowledged: []string{"a:1", "b:2"}, Expired: []string{"c:3"}, Took: 1520 * time.Millisecond,
	}
}

func aStoreReport() *kms.StoreReport {
	return &kms.StoreReport{
		StoreID: "0123456789abcdef", Revision: 12, SealKey: hsm.UID{9}, Rows: map[string]int{"keys": 3, "versions": 7},
		Problems: []string{"the row of namespaces/shop has no seal"}, Spread: aSpread(),
	}
}

func aReplica() *kms.ReplicaInfo {
	return &kms.ReplicaInfo{
		Lease: kms.Lease{
			ID: "0123456789abcdef", Counter: 4, Applied: 11, Duration: 5 * time.Second, Replica: "a:1", Release: "v1",
			StartTime: aTime(8),
		},
		Self: true, Lag: 1, Live: true, Idle: time.Millisecond,
	}
}

func anOrphan() *kms.OrphanInfo {
	return &kms.OrphanInfo{UID: hsm.UID{5}, Label: "keyholt:0123456789abcdef:1", Spec: hsm.AES256GCM, DestroyTime: aTime(9)}
}

func someItems(data bool) []kms.DataKeyItem {
	binding, empty := aBinding(), kms.Binding{}
	items := []kms.DataKeyItem{
		{},
		{Key: aKey()},
		{Key: aKey(), Binding: &binding},
		{Key: anotherKey(), Binding: &empty},
		{Binding: &binding},
	}
	for i := range items {
		secret := []byte{byte(i), 1, 2, 3}
		if data {
			items[i].DataKey = secret
		} else {
			items[i].Wrapped = secret
		}
	}
	return items
}

// somePayloads are the same with payloads.
func somePayloads(plaintext bool) []kms.PayloadItem {
	payloads := make([]kms.PayloadItem, 0, 5)
	for _, item := range someItems(true) {
		payload := kms.PayloadItem{Key: item.Key, Binding: item.Binding}
		if plaintext {
			payload.Plaintext = item.DataKey
		} else {
			payload.Ciphertext = item.DataKey
		}
		payloads = append(payloads, payload)
	}
	return payloads
}
